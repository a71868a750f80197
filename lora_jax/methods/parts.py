"""The two parts that a bound `apply` takes first, and what tells that they are not these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from lora_jax import errors, tree

Follows = Callable[[str], tuple[str, tuple[int | None, ...]] | None]


def check(follows: Follows, frozen: object, trainable: object) -> None:
  """Raises an error that says which part is missing or misnamed, or that the two are swapped.

  Args:
    follows: the method's, see `Method.follows`.
    frozen, trainable: the first two arguments.

  Raises:
    TypeError: if one of them is not a tree of parameters.
    ValueError: if `frozen` holds a factor, and `trainable` the weight that it adapts; if a factor
      lies where the model has no parameters.
  """
  for name, part in (('frozen', frozen), ('trainable', trainable)):
    if not isinstance(part, Mapping):
      raise TypeError(
        f'bind: {name} is of the type {type(part).__name__}, expected a tree of parameters. The '
        "first two arguments are those that method.init returned, then come the model's own: "
        'apply(frozen, trainable, *args).'
      )
  left, trained = (tree.paths(cast(tree.Params, part)) for part in (frozen, trainable))
  module_of = lambda path: path.rpartition('/')[0]
  modules = {module_of(path) for path in (*left, *trained) if not follows(path)}
  lost = [path for path in trained if follows(path) and module_of(path) not in modules]
  if lost:
    raise ValueError(
      f'bind: {errors.listed(lost)}: the model has no parameters there, so nothing would use it. '
      'Pass what method.init returned for this model, with its names.'
    )
  for path in left:
    if (weight := follows(path)) and weight[0] in trained:
      raise ValueError(
        f'bind: the two parts are swapped: the first holds {path}, the second {weight[0]}, which '
        'it adapts. Call apply(frozen, trainable, *args).'
      )
