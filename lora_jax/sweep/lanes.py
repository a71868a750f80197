"""Runs stacked as lanes: their parameters zero-padded to one shape, their numbers as arrays.

A smaller rank is the larger one with zero columns in `lora_a` and zero rows in `lora_b`, a matrix
that a lane does not adapt has both factors zero: their gradients are zero, and AdamW leaves them
so. Random factors are drawn at a lane's own rank, before the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import tree
from lora_jax.train import job, optimizer, state


class PerLane(NamedTuple):
  """What a program takes of each lane besides its state; the leaves are [lanes, ...].

  Attributes:
    numbers: of the optimizer.
    scales: `lora_scale` beside every factor, see `Method.scales`; {} for a method without.
  """

  numbers: optimizer.Numbers
  scales: Any


def load(configs: Sequence[Any], devices: jax.sharding.Mesh | None = None) -> list[job.Job]:
  """The jobs of lanes of one program; they share one frozen base and all that is not of a seed.

  Args:
    configs: of each lane.
    devices: as for `job.load`.

  Raises:
    ValueError: as `job.load`.
  """
  tasks: dict[int, Any] = {}
  works: list[job.Job] = []
  base, base_seed = None, None
  for config in configs:
    seed = config.seed
    data = seed if config.data.limit else 0  # Without a limit no data depends on it.
    if data not in tasks:
      tasks[data] = job.load_task(config)
    if seed != base_seed:  # The head is drawn by it. Lanes of a seed follow each other.
      base, base_seed = job.load_base(config, tasks[data], devices), seed
    work = job.build(config, tasks[data], base, devices)
    works.append(work._replace(frozen=works[0].frozen) if works else work)
  return works


def per_lane(works: Sequence[job.Job], totals: Sequence[int]) -> PerLane:
  """The numbers of lanes, given each one's number of updates in all.

  Raises:
    ValueError: as `optimizer.numbers`.
  """
  numbers = [optimizer.numbers(work.config.optim, total) for work, total in zip(works, totals)]
  return PerLane(
    jax.tree.map(lambda *x: np.asarray(x, np.float32), *numbers),
    stacked([scales(work) for work in works]),
  )


def scales(work: job.Job) -> dict[str, Any]:
  """The scales of one lane's factors, {} for a method that has none."""
  if work.method.scales is None:
    return {}
  return work.method.scales(work.model, jax.ShapeDtypeStruct((1, 8), np.int32))


def union(trees: Sequence[Any]) -> dict[str, Any]:
  """The shapes that hold each of the trees: every path of any, as large as the largest there."""
  shapes: dict[str, jax.ShapeDtypeStruct] = {}
  for one in trees:
    for path, leaf in tree.flatten(one).items():
      shape = leaf.shape if path not in shapes else np.maximum(shapes[path].shape, leaf.shape)
      shapes[path] = jax.ShapeDtypeStruct(tuple(map(int, shape)), leaf.dtype)
  return tree.unflatten(shapes)


def fitted(values: Any, like: Any) -> Any:
  """`values` in the structure and the shapes of `like`: cut, or padded with zeros, at each end.

  Leaves go by their path; one that `values` lacks is zero, one that `like` lacks is left out.
  """
  given = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(values)}

  def fit(path: Any, leaf: Any) -> Any:
    value = given.get(jax.tree_util.keystr(path))
    if value is None:
      return jnp.zeros(leaf.shape, leaf.dtype)
    value = value[tuple(slice(size) for size in leaf.shape)]
    missing = [(0, most - size) for size, most in zip(value.shape, leaf.shape)]
    return jnp.pad(value, missing) if any(after for _, after in missing) else jnp.asarray(value)

  return jax.tree_util.tree_map_with_path(fit, like)


def stacked(trees: Sequence[Any]) -> Any:
  """The trees, each fitted to the shapes that hold them all, on a new leading axis."""
  like = union(trees)
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(fitted(one, like) for one in trees))


def taken(arrays: Any, index: Any) -> Any:
  """One lane of stacked arrays (an integer), or several, still stacked (a list)."""
  index = index if isinstance(index, int) else np.asarray(index)
  return jax.tree.map(lambda x: x[index], arrays)


def lane_state(now: state.TrainState, index: int, shared: bool) -> state.TrainState:
  """One lane's state, still padded."""
  key = now.key if shared else now.key[index]
  return state.TrainState(now.step, taken(now.trainable, index), taken(now.opt_state, index), key)


def taken_state(now: state.TrainState, index: list[int], shared: bool) -> state.TrainState:
  """Several lanes' state, still stacked."""
  key = now.key if shared else now.key[np.asarray(index)]
  return state.TrainState(now.step, taken(now.trainable, index), taken(now.opt_state, index), key)


def shardings(now: state.TrainState, split: Any, whole: Any, shared: bool) -> state.TrainState:
  """Where a stacked state lies: `split` along its lanes, `whole` where it has none."""
  every = lambda arrays: jax.tree.map(lambda _: split, arrays)
  return state.TrainState(
    whole, every(now.trainable), every(now.opt_state), whole if shared else split
  )


@jax.jit
def chosen(which: jax.Array, new: Any, old: Any) -> Any:
  """Stacked arrays: of `new` in the lanes where bool [lanes] `which` says so, else of `old`."""
  pick = lambda x, y: jnp.where(which.reshape(-1, *[1] * (x.ndim - 1)), x, y)
  return jax.tree.map(pick, new, old)
