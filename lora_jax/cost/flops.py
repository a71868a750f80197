"""FLOPs of a traced function: those of its products, a loop's as often as it is run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jax.extend import core
from jax.interpreters import partial_eval


def count(jaxpr: core.Jaxpr | core.ClosedJaxpr) -> float:
  """FLOPs of the matrix products and convolutions of a jaxpr, on all devices together.

  XLA's own count takes the body of a loop once, however many layers it stands for. A `while` whose
  length is not known counts once here too; of a `cond` the most expensive branch counts. Norms,
  softmax and the optimizer are no products and are not counted, as is usual for utilization. Nor is
  a product that nothing asks for, which the compiler drops: in bfloat16 the gradients of frozen
  kernels are traced as well (see `ops.dot_general`).
  """
  jaxpr = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
  used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _count(used)


def _count(jaxpr: core.Jaxpr | core.ClosedJaxpr) -> float:
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
    return max(_count(branch) for branch in params['branches'])
  return params.get('length', 1) * sum(_count(inner) for inner in _inside(params))


def _inside(params: dict[str, Any]) -> Iterator[Any]:
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if hasattr(getattr(item, 'jaxpr', item), 'eqns'):
        yield item
