"""The members of a program: their parameters zero-padded to one shape and stacked.

A smaller rank is the larger one with zero columns in `lora_a` and zero rows in `lora_b`; for a
matrix that a member does not adapt both factors are zero. Their gradients are then zero, and AdamW
leaves them zero. Random factors are drawn at a member's own rank, before the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from lora_jax import tree
from lora_jax.models.presets import TOKENS
from lora_jax.train import job, optimizer
from lora_jax.train.step import TrainState
from lora_jax.tree import Params

Tree = TypeVar('Tree')  # Nested arrays.


class PerMember(NamedTuple):
  """What a program takes of each member besides its state; the leaves are [members, ...].

  Attributes:
    hyperparameters: of the optimizer.
    scales: `lora_scale` beside every factor, see `Method.scales`; {} for a method without.
  """

  hyperparameters: optimizer.Hyperparameters
  scales: Params


def per_member(works: Sequence[job.Job], totals: Sequence[int]) -> PerMember:
  """What each member's program takes, given each one's number of updates in all.

  Raises:
    ValueError: as `optimizer.hyperparameters`.
  """
  each = [optimizer.hyperparameters(work.config.optim, total) for work, total in zip(works, totals)]
  return PerMember(
    jax.tree.map(lambda *x: np.asarray(x, np.float32), *each),
    stack([scales(work) for work in works]),
  )


def scales(work: job.Job) -> Params:
  """The scales of one member's factors, {} for a method that has none."""
  return work.method.scales(work.model, TOKENS)


def union(trees: Sequence[Params]) -> Params:
  """The shapes that hold each of the trees: every path of any, as large as the largest there."""
  shapes: dict[str, jax.ShapeDtypeStruct] = {}
  for one in trees:
    for path, leaf in tree.flatten(one).items():
      shape = leaf.shape if path not in shapes else np.maximum(shapes[path].shape, leaf.shape)
      shapes[path] = jax.ShapeDtypeStruct(tuple(map(int, shape)), leaf.dtype)
  return tree.unflatten(shapes)


def resize(values: object, like: Tree) -> Tree:
  """`values` in the structure and the shapes of `like`: cut, or padded with zeros, at each end.

  Leaves go by their path; one that `values` lacks is zero, one that `like` lacks is left out.
  """
  given = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(values)}

  def fit(path: jax.tree_util.KeyPath, leaf: jax.Array) -> jax.Array:
    value = given.get(jax.tree_util.keystr(path))
    if value is None:
      return jnp.zeros(leaf.shape, leaf.dtype)
    value = value[tuple(slice(size) for size in leaf.shape)]
    missing = [(0, most - size) for size, most in zip(value.shape, leaf.shape)]
    return jnp.pad(value, missing) if any(after for _, after in missing) else jnp.asarray(value)

  return jax.tree_util.tree_map_with_path(fit, like)


def stack(trees: Sequence[Params]) -> Params:
  """The trees on a new leading axis, each resized to the shapes that hold them all."""
  like = union(trees)
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(resize(one, like) for one in trees))


def take(arrays: Tree, index: int | Sequence[int]) -> Tree:
  """One member of stacked arrays (an integer), or several, still stacked (a list)."""
  chosen = index if isinstance(index, int) else np.asarray(index)
  return jax.tree.map(lambda x: x[chosen], arrays)


def take_state(state: TrainState, index: int | Sequence[int], *, one_key: bool) -> TrainState:
  """One member's state, still padded, or several members' state, still stacked.

  Args:
    state: the stacked state.
    index: as for `take`.
    one_key: the members share the dropout key, which is not stacked.
  """
  key = state.key if one_key else take(state.key, index)
  return TrainState(state.step, take(state.trainable, index), take(state.opt_state, index), key)


def shardings(state: TrainState, split: Sharding, whole: Sharding, *, one_key: bool) -> TrainState:
  """Where a stacked state lies: `split` along its members, `whole` where it has none."""
  every = lambda arrays: jax.tree.map(lambda _: split, arrays)
  return TrainState(
    whole, every(state.trainable), every(state.opt_state), whole if one_key else split
  )


@jax.jit
def select(which: jax.Array, new: Tree, old: Tree) -> Tree:
  """Stacked arrays: those of `new` where bool [members] `which` is true, elsewhere of `old`."""
  pick = lambda x, y: jnp.where(which.reshape(-1, *[1] * (x.ndim - 1)), x, y)
  return jax.tree.map(pick, new, old)
