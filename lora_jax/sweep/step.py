"""The compiled functions of a sweep: the train step and the outputs of a run, under `vmap`.

The base is not mapped, so each product with one of its matrices is one product for all members.
Batches and the dropout key are mapped only where the members have their own: with the same ones,
what lies below the first adapted layer is the same for all members, and is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lora_jax import compilation, tree
from lora_jax.sweep.members import PerMember
from lora_jax.train import job, optimizer, step
from lora_jax.train.step import Batch, Jitted, Metrics, TrainState
from lora_jax.tree import Params


def init_state(
  work: job.Job, trainable: Params, seeds: Sequence[int], *, shared: bool
) -> TrainState:
  """The members' state before the first update; `trainable` is stacked."""
  keys = [jax.random.key_data(jax.random.key(seed)) for seed in seeds]
  tx = optimizer.transformation(work.config.optim, optimizer.Hyperparameters(0.0, 0.0, 0, 1))
  return TrainState(
    jnp.zeros((), jnp.int32),
    jax.tree.map(jnp.array, trainable),
    jax.vmap(tx.init)(trainable),
    keys[0] if shared else jnp.stack(keys),
  )


def make_train_step(work: job.Job, *, shared: bool) -> Jitted:
  """A jitted `step(state, frozen, per_member, batches)`: a single run's, for several members.

  Args:
    work: the job of any member.
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
      optimizer.transformation(config.optim, member.hyperparameters),
      work.task.kind,
      smoothing=config.train.label_smoothing,
      accumulate=config.train.accumulate,
    )
    return update(state, tree.join(frozen, member.scales), batch)

  own = None if shared else 0
  axes = TrainState(step=None, trainable=0, opt_state=0, key=own)
  every = jax.vmap(one, in_axes=(axes, None, 0, own), out_axes=(axes, 0))

  def steps(state: TrainState, frozen: Params, per_member: PerMember, batches: Batch):
    update = lambda state, batch: every(state, frozen, per_member, batch)
    return jax.lax.scan(update, state, dict(batches))

  return jax.jit(steps, donate_argnums=0, compiler_options=compilation.options(work.family))


def make_eval_step(work: job.Job) -> Jitted:
  """A jitted `step(frozen, per_member, trainable, batch)`; the outputs are [members, R, E]."""
  outputs = step.make_outputs(work.apply, work.task.kind)

  def one(frozen: Params, member: PerMember, trainable: Params, batch: Batch):
    return outputs(tree.join(frozen, member.scales), trainable, batch)

  every = jax.vmap(one, in_axes=(None, 0, 0, None))
  return jax.jit(every, compiler_options=compilation.options(work.family))
