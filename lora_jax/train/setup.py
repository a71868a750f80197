"""What a run is made of before its first step: batches, compiled functions, intervals.

A plan lowers the functions that are made here without running them (`lora_jax/cost/shapes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import optax
from jax.sharding import Mesh
from ml_collections import config_dict

from lora_jax.data import batches, dataset
from lora_jax.methods.base import FollowsFn
from lora_jax.models import presets
from lora_jax.train import estimate, evaluate, generate, job, mesh, step
from lora_jax.train.step import TrainState
from lora_jax.tree import Params


class Program(NamedTuple):
  """The compiled side of training a job.

  Attributes:
    init: `init(trainable)`, the state before the first update.
    train_step: the train step, see `step.make_train_step`.
    state: shapes of the state, `jax.ShapeDtypeStruct`s with their shardings.
  """

  init: Callable[[Params], TrainState]
  train_step: step.Jitted
  state: TrainState


class Tools(NamedTuple):
  """What the evaluations of a job need, whichever of its parameters are evaluated.

  Attributes:
    held_out: the batches of each held-out split.
    texts: decodes prompts, see `generate.make_generator`; None where the config asks for no text.
    final: the prompts that are decoded at the end of the run, None for none.
    eval_every, save_every: numbers of steps between evaluations and between checkpoints.
  """

  held_out: Mapping[str, Sequence[evaluate.HostBatch]]
  texts: generate.Texts | None
  final: dataset.Prompts | None
  eval_every: int
  save_every: int


def make_program(work: job.Job, tx: optax.GradientTransformation, devices: Mesh) -> Program:
  """The functions that train a job on a mesh; its arrays may be shapes alone.

  Args:
    work: the job.
    tx: the optimizer.
    devices: the mesh.

  Raises:
    ValueError: naming the leaves that the mesh cannot split.
  """
  train = work.config.train
  init, state = make_init(
    work.trainable, tx, work.config.seed, devices, work.family, work.method.follows
  )
  train_step = step.make_train_step(
    work.apply,
    tx,
    work.task.kind,
    smoothing=train.label_smoothing,
    accumulate=train.accumulate,
    shardings=jax.tree.map(lambda x: x.sharding, state),
    family=work.family,
  )
  return Program(init, train_step, state)


def make_init(
  trainable: Params,
  tx: optax.GradientTransformation,
  seed: int,
  devices: Mesh,
  family: str,
  follows: FollowsFn,
) -> tuple[Callable[[Params], TrainState], TrainState]:
  """`init(trainable)`, which makes the first state on a mesh, and its shapes with shardings.

  No device ever holds more than its part of the state. `trainable` may be shapes alone.
  """
  init = lambda trainable: step.init_state(trainable, tx, seed)
  shapes = jax.eval_shape(init, trainable)
  shardings = mesh.state_shardings(shapes, devices, family, follows)
  jitted = jax.jit(init, out_shardings=shardings)
  state = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, shardings
  )
  return lambda x: jitted(mesh.put(x, shardings.trainable)), state


def make_tools(work: job.Job, devices: Mesh, steps_per_epoch: int) -> Tools:
  """The tools of a job on a mesh.

  Raises:
    ValueError: for decoding settings that do not fit the task or the model.
  """
  decode = work.config.decode
  wants_text = decode.contexts or decode.final
  eval_every, save_every = intervals(work.config, steps_per_epoch)
  passes = max(1, steps_per_epoch * work.config.train.epochs // eval_every)
  _, shape_tokens = estimate.shape_tokens(work, mesh.platform(devices))
  return Tools(
    evaluate.layouts(work, mesh.row_shares(devices), shape_tokens / passes),
    generate.make_generator(work, decode, devices) if wants_text else None,
    job.load_prompts(work.config, decode.final) if decode.final else None,
    eval_every,
    save_every,
  )


def make_batches(work: job.Job, devices: Mesh) -> batches.Batches:
  """The training batches, as the config lays them out.

  Their shapes are those with which the run is expected to end soonest, `data.max_shapes` at most.

  Raises:
    ValueError: as `batches.Batches`, for a task without examples too, and as `mesh.check_batch`.
  """
  config = work.config
  steps = -(-len(work.task.train) // config.train.batch_size) * config.train.epochs
  shape_tokens, _ = estimate.shape_tokens(work, mesh.platform(devices))
  return batches.Batches(
    work.task.train,
    batch_size=config.train.batch_size,
    seed=config.seed,
    rows_multiple=mesh.check_batch(devices, config.train.batch_size, config.train.accumulate),
    group=config.train.steps_per_call,
    layout=config.data.batching,
    max_length=work.max_length,
    row_length=config.data.row_length,
    max_shapes=config.data.max_shapes,
    shape_cost=shape_tokens / max(steps, 1),  # No steps: `Batches` says why.
    prediction_cost=prediction_cost(work.model.config),
    host_shard=mesh.host_shard(devices),
  )


def prediction_cost(architecture: presets.Config) -> float:
  """Cost of a language model's output at a position, over that of the position's layers."""
  layers = 12 * architecture.num_layers * architecture.hidden_size
  return architecture.vocab_size / layers


def upcoming(
  training: batches.Batches, done: int, total_steps: int
) -> Iterator[evaluate.HostBatch]:
  """The batches from step `done` on, each with a leading axis of `training.group` updates."""
  while done < total_steps:
    epoch, start = divmod(done, training.steps_per_epoch)
    for batch in training.epoch(epoch, start):
      yield batch
      done += training.updates(done)


def intervals(config: config_dict.ConfigDict, steps_per_epoch: int) -> tuple[int, int]:
  """Numbers of steps between evaluations, and between checkpoints."""
  every = config.eval.every_steps or config.eval.every_epochs * steps_per_epoch
  return every, config.checkpoint.every_steps or steps_per_epoch


def crosses(first: int, last: int, every: int) -> bool:
  """Whether a multiple of `every` lies in (first, last]: a dispatch may make several steps."""
  return last // every > first // every
