"""FLOPs of a traced function: those of its products, a loop's as often as it is run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def count(jaxpr: Any) -> float:
  """FLOPs of the matrix products and convolutions of a jaxpr, on all devices together.

  XLA's own count takes the body of a loop once, however many layers it stands for. A `while` whose
  length is not known counts once here too; of a `cond` the most expensive branch counts. Norms,
  softmax and the optimizer are no products and are not counted, as is usual for utilization.
  """
  return sum(_equation(equation) for equation in getattr(jaxpr, 'jaxpr', jaxpr).eqns)


def _equation(equation: Any) -> float:
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    return 2.0 * equation.outvars[0].aval.size * math.prod(shape[i] for i in contracted)
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval
    features = kernel.shape[params['dimension_numbers'].rhs_spec[0]]
    return 2.0 * equation.outvars[0].aval.size * kernel.size / features
  if name == 'cond':
    return max(count(branch) for branch in params['branches'])
  return params.get('length', 1) * sum(count(inner) for inner in _inside(params))


def _inside(params: dict[str, Any]) -> Iterator[Any]:
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if hasattr(getattr(item, 'jaxpr', item), 'eqns'):
        yield item
