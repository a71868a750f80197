"""The two parts that a bound `apply` takes first, and what tells that they are not these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from lora_jax import errors, tree
from lora_jax.methods.lowrank import FACTORS

CALLS = {
  'bind': 'apply(frozen, trainable, *args)',
  'adapt': 'adapt(model, method, frozen, trainable)',
  'merge': 'method.merge(frozen, trainable)',
}
TRAINED = (*FACTORS, 'vera_b')  # Of the methods that add to a layer what they alone compute with.
# What a leaf is computed with: a leaf beside it in its module, and those shared by all modules.
BESIDE = {'lora_a': 'lora_b', 'lora_b': 'lora_a', 'vera_b': 'vera_d', 'vera_d': 'vera_b'}
SHARED = {'vera_b': ('vera_projections/a', 'vera_projections/b')}
Follows = Callable[[str], tuple[str, tuple[int | None, ...]] | None]


def check(follows: Follows, frozen: object, trainable: object, caller: str = 'bind') -> None:
  """Raises an error that says which part is missing or misnamed, or that the two are swapped.

  Args:
    follows: the method's, see `Method.follows`.
    frozen, trainable: the two parts.
    caller: the function that was called with them, for the errors.

  Raises:
    TypeError: if one of them is not a tree of parameters.
    ValueError: if `frozen` holds a factor, and `trainable` the weight that it adapts; if a factor
      lies where the model has no parameters, is of another method, or lacks what it is
      computed with: the other factor, or VeRA's shared pair.
  """
  for name, part in (('frozen', frozen), ('trainable', trainable)):
    if not isinstance(part, Mapping):
      raise TypeError(
        f'{caller}: {name} is of the type {type(part).__name__}, expected a tree of parameters. '
        f'The two are those that method.init returned: {CALLS[caller]}.'
      )
  left, trained = (tree.paths(cast(tree.Params, part)) for part in (frozen, trainable))
  module_of = lambda path: path.rpartition('/')[0]
  modules = {module_of(path) for path in (*left, *trained) if not follows(path)}
  lost = [path for path in trained if follows(path) and module_of(path) not in modules]
  if lost:
    raise ValueError(
      f'{caller}: {errors.listed(lost)}: the model has no parameters there, so nothing would use '
      'it. Pass what method.init returned for this model, with its names.'
    )
  for path in left:
    if (weight := follows(path)) and weight[0] in trained:
      raise ValueError(
        f'{caller}: the two parts are swapped: the first holds {path}, the second {weight[0]}, '
        f'which it adapts. Call {CALLS[caller]}.'
      )
  if not any(follows(name) for name in TRAINED):
    return
  others = [path for path in trained if _name(path) in TRAINED and not follows(path)]
  if others:
    raise ValueError(
      f'{caller}: {errors.listed(others)}: of another method than this one, which would not use '
      'it. Give the method whose init made these parts.'
    )
  paths = {*left, *trained}
  lacking = {
    other: path
    for path in sorted(paths)
    if follows(path) or follows(_beside(path))  # A model may have such parameters of its own.
    for other in (_beside(path), *SHARED.get(_name(path), ()))
    if other not in paths
  }
  if lacking:
    raise ValueError(
      f'{caller}: {next(iter(lacking.values()))} needs {errors.listed(list(lacking))}, which '
      'neither part has. Pass both parts whole, as method.init returned them.'
    )


def merge(
  fold: Callable[[tree.Params, tree.Params], tree.Tree],
  follows: Follows,
  frozen: tree.Params,
  trainable: tree.Params,
) -> tree.Tree:
  """A method's `merge` of two parts that are its own."""
  check(follows, frozen, trainable, 'merge')
  return fold(frozen, trainable)


def _name(path: str) -> str:
  return path.rpartition('/')[2]


def _beside(path: str) -> str:
  """The leaf that has to lie beside a leaf, by BESIDE; of others, the leaf itself."""
  name = _name(path)
  return path.removesuffix(name) + BESIDE.get(name, name)
