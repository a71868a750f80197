"""The compiled functions of lanes: the train step and the outputs of a single run under `vmap`.

The base is not mapped, so each product with one of its matrices is one product for all lanes.
Batches and the dropout key are mapped only where the lanes have their own: with the same ones, what
lies below the first adapted layer is the same for all lanes, and is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lora_jax import tree
from lora_jax.sweep.lanes import PerLane
from lora_jax.train import job, optimizer, state, step


def init_state(work: job.Job, trainable: Any, seeds: list[int], shared: bool) -> state.TrainState:
  """The lanes' state before the first update; `trainable` is stacked."""
  keys = [jax.random.key_data(jax.random.key(seed)) for seed in seeds]
  tx = optimizer.transformation(work.config.optim, optimizer.Numbers(0.0, 0.0, 0, 1))
  return state.TrainState(
    jnp.zeros((), jnp.int32),
    jax.tree.map(jnp.array, trainable),
    jax.vmap(tx.init)(trainable),
    keys[0] if shared else jnp.stack(keys),
  )


def make_train_step(
  work: job.Job, shared: bool
) -> Callable[[state.TrainState, Any, PerLane, Any], tuple[state.TrainState, dict[str, Any]]]:
  """A jitted `step(state, frozen, per_lane, batches)`, as that of a single run with more lanes.

  Args:
    work: any of the lanes' jobs.
    shared: whether the lanes have the same batches, [K, rows, ...], and the same key. Otherwise
      batches are [K, lanes, rows, ...].

  Returns:
    the step. Its metrics are [K, lanes].
  """
  config = work.config

  def one(now: state.TrainState, frozen: Any, lane: PerLane, batch: Any):
    update = step.make_update(
      work.apply,
      optimizer.transformation(config.optim, lane.numbers),
      work.task.kind,
      smoothing=config.train.label_smoothing,
      accumulate=config.train.accumulate,
    )
    return update(now, tree.join(frozen, lane.scales), batch)

  own = None if shared else 0
  axes = state.TrainState(step=None, trainable=0, opt_state=0, key=own)
  every = jax.vmap(one, in_axes=(axes, None, 0, own), out_axes=(axes, 0))

  def steps(now: state.TrainState, frozen: Any, per_lane: PerLane, batches: Any):
    update = lambda now, batch: every(now, frozen, per_lane, batch)
    return jax.lax.scan(update, now, dict(batches))

  return jax.jit(steps, donate_argnums=0)


def make_eval_step(work: job.Job) -> Callable[[Any, PerLane, Any, Any], dict[str, Any]]:
  """A jitted `step(frozen, per_lane, trainable, batch)`: each lane's outputs, [lanes, R, E]."""
  outputs = step.make_outputs(work.apply, work.task.kind)

  def one(frozen: Any, lane: PerLane, trainable: Any, batch: Any) -> dict[str, Any]:
    return outputs(tree.join(frozen, lane.scales), trainable, batch)

  return jax.jit(jax.vmap(one, in_axes=(None, 0, 0, None)))
