"""The compiled functions of a sweep: the train step and the outputs of a run, for each member.

On an accelerator the members are computed together, under `vmap`. The base is not mapped, so each
product with one of its matrices is one product for all members. Batches and the dropout key are
mapped only where the members have their own: with the same ones, what lies below the first adapted
layer is the same for all members, and is computed once.

On a CPU they are computed one after the other, in a loop within the program: a step of one member
has products large enough for it, what is kept for the backward pass is one member's, and memory is
asked of the system once for all. MiniLM, 18 rows of 128, seconds of a core a member and step: alone
0.88, four under `vmap` 1.04, four in turn 0.65; with an allocator that gives nothing back between
steps 0.67, 0.72 and 0.60. Rows of 32, four of them: 0.040, 0.044, 0.042.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lora_jax import compilation, tree
from lora_jax.sweep.members import PerMember
from lora_jax.train import dispatch, job, mesh, optimizer, step
from lora_jax.train.step import Batch, Jitted, Metrics, TrainState
from lora_jax.tree import Params


def init_state(
  work: job.Job, trainable: Params, seeds: Sequence[int], *, shared: bool
) -> TrainState:
  """The members' state before the first update; `trainable` is stacked."""
  keys = [jax.random.key_data(jax.random.key(seed)) for seed in seeds]
  any_numbers = optimizer.Hyperparameters(0.0, 0.0, 0, 1)
  tx = optimizer.transformation(work.config.optim, any_numbers, work.groups)
  return TrainState(
    jnp.zeros((), jnp.int32),
    jax.tree.map(jnp.array, trainable),
    jax.vmap(tx.init)(trainable),
    keys[0] if shared else jnp.stack(keys),
  )


def is_in_turn(devices: Mesh) -> bool:
  """Whether members are computed one after the other: on a CPU, unless it stands for several."""
  return devices.size == 1 and mesh.platform(devices) == 'cpu'


def make_train_step(work: job.Job, *, shared: bool, in_turn: bool) -> Jitted:
  """A jitted `step(state, frozen, per_member, batches)`: a single run's, for several members.

  Args:
    work: the job of any member.
    in_turn: whether they are computed one after the other, see `is_in_turn`.
    shared: whether the members have the same batches, [K, rows, ...], and the same key. Otherwise
      batches are [K, members, rows, ...].

  Returns:
    the step. Its metrics are [K, members].
  """
  config = work.config

  def one(
    state: TrainState, frozen: Params, member: PerMember, batch: Batch
  ) -> tuple[TrainState, Metrics]:
    update = step.make_update(
      work.apply,
      optimizer.transformation(config.optim, member.hyperparameters, work.groups),
      work.task.kind,
      smoothing=config.train.label_smoothing,
      accumulate=config.train.accumulate,
    )
    return update(state, tree.join(frozen, member.scales), batch)

  own = None if shared else 0
  axes = TrainState(step=None, trainable=0, opt_state=0, key=own)
  every = jax.vmap(one, in_axes=(axes, None, 0, own), out_axes=(axes, 0))
  if in_turn:
    every = functools.partial(_one_by_one, one, shared)

  def steps(state: TrainState, frozen: Params, per_member: PerMember, batches: Batch):
    update = lambda state, batch: every(state, frozen, per_member, batch)
    return dispatch.repeated(update, state, batches)

  return jax.jit(steps, donate_argnums=0, compiler_options=compilation.options(work.family))


def make_eval_step(work: job.Job, *, in_turn: bool) -> Jitted:
  """A jitted `step(frozen, per_member, trainable, batch)`; the outputs are [members, R, E]."""
  outputs = step.make_outputs(work.apply, work.task.kind)

  def one(frozen: Params, member: PerMember, trainable: Params, batch: Batch):
    return outputs(tree.join(frozen, member.scales), trainable, batch)

  def each(frozen: Params, per_member: PerMember, trainable: Params, batch: Batch):
    return jax.lax.map(lambda own: one(frozen, own[0], own[1], batch), (per_member, trainable))

  every = each if in_turn else jax.vmap(one, in_axes=(None, 0, 0, None))
  return jax.jit(every, compiler_options=compilation.options(work.family))


def _one_by_one(
  one: Callable[..., tuple[TrainState, Metrics]],
  shared: bool,
  state: TrainState,
  frozen: Params,
  per_member: PerMember,
  batch: Batch,
) -> tuple[TrainState, Metrics]:
  """`one` of each member in a loop; arguments and results are those of the `vmap`."""
  common = (state.key, batch) if shared else ()
  own = () if shared else (state.key, batch)

  def update(member: Any) -> tuple[Params, Any, Metrics]:
    trainable, opt_state, per_member, *own = member
    key, rows = common or own
    after, metrics = one(
      TrainState(state.step, trainable, opt_state, key), frozen, per_member, rows
    )
    return after.trainable, after.opt_state, metrics

  every = state.trainable, state.opt_state, per_member, *own
  trainable, opt_state, metrics = jax.lax.map(update, every)
  return TrainState(state.step + 1, trainable, opt_state, state.key), metrics
