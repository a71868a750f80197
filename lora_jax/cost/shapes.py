"""A config's job and train step as shapes: what a run is, without its data or weights.

The job, the step and the state's placement are made by the functions that a run makes them with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import config_dict

from lora_jax.data import tasks
from lora_jax.models import fused_attention, presets
from lora_jax.pretrained import huggingface
from lora_jax.train import base_options, config_check, job, mesh, optimizer, rundir, setup
from lora_jax.train.step import TrainState
from lora_jax.tree import Params

# Training examples, by the official files.
EXAMPLES = {
  'mnli': 392_702,
  'qqp': 363_846,
  'qnli': 104_743,
  'sst2': 67_349,
  'cola': 8_551,
  'stsb': 5_749,
  'mrpc': 3_668,
  'rte': 2_490,
  'wnli': 635,
  'e2e': 42_061,
  'webnlg': 18_025,
  'dart': 62_659,
  'wikisql': 56_355,
  'samsum': 14_732,
  'mnli_text': 392_702,
}


class TracedStep(NamedTuple):
  """The train step of a run, traced, with the shapes of its arguments; each has its sharding."""

  traced: jax.stages.Traced
  state: TrainState
  frozen: Params
  batch: Mapping[str, jax.ShapeDtypeStruct]


def abstract_job(config: config_dict.ConfigDict) -> job.Job:
  """The job of a config as shapes. No weights are read; of a folder only its config.json.

  Raises:
    ValueError: for an unknown model, a method that does not fit, or rows that are longer than the
      model's positions.
  """
  config_check.check_config(config)
  task = tasks.without_data(config.task, rundir.own_files(config))
  arguments = base_options.model_arguments(config, task)
  model = huggingface.make_model(base_options.architecture(config), **arguments)
  method = job.make_method(config, model)
  parts = job.divide(config, method, model, _base(config, model))
  work = job.assemble(config, task, model, method, *parts)
  if work.max_length > model.config.max_positions:
    raise ValueError(
      f'rows of {work.max_length} tokens, but {config.model.name} has '
      f'{model.config.max_positions} positions. Lower config.data.max_length.'
    )
  return work


def _base(config: config_dict.ConfigDict, model: presets.Model) -> Params:
  """The shapes of a model's parameters, quantized as they would be loaded."""
  name = config.model.name
  if name == 'fresh' or rundir.is_run(name):
    return base_options.quantized(config, presets.abstract_params(model))
  return huggingface.abstract_params(name, model, base_options.quantization_of(config))


def count_steps(config: config_dict.ConfigDict) -> int | None:
  """Updates of the whole run, or None where the number of examples is not known."""
  examples = EXAMPLES.get(config.task)
  if config.data.limit:
    examples = min(config.data.limit, examples or config.data.limit)
  return examples and math.ceil(examples / config.train.batch_size) * config.train.epochs


def trace(work: job.Job, devices: Mesh) -> TracedStep:
  """Traces the train step of a run on a mesh.

  A batch is `train.batch_size` rows of full length; a language model predicts at every position.

  Args:
    work: a job of shapes.
    devices: the mesh.

  Raises:
    ValueError: if the mesh cannot split the batch or a leaf.
  """
  config = work.config
  shares = mesh.check_batch(devices, config.train.batch_size, config.train.accumulate)
  if config.train.batch_size % shares:
    raise ValueError(
      f'train.batch_size={config.train.batch_size} is not a multiple of {shares}: the rows of '
      f'{dict(devices.shape)}, {config.train.accumulate} accumulation steps. Change the batch size '
      '(--batch), config.mesh or train.accumulate.'
    )
  steps = max(count_steps(config) or 0, config.optim.warmup_steps + 1, 1000)
  tx, _ = optimizer.make_optimizer(config.optim, steps, work.groups)
  program = setup.make_program(work, tx, devices)
  frozen = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    work.frozen,
    mesh.shardings(work.frozen, devices, work.family),
  )
  batch = {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.rows(devices))
    for name, (shape, dtype) in _batch(work).items()
  }
  with fused_attention.use(mesh.target(devices)):
    traced = program.train_step.trace(program.state, frozen, batch)
  return TracedStep(traced, program.state, frozen, batch)


def bytes_per_device(shapes: Any) -> int:
  """Bytes that shapes with shardings take on each device."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * np.dtype(x.dtype).itemsize
    for x in jax.tree.leaves(shapes)
  )


def _batch(work: job.Job) -> Mapping[str, tuple[tuple[int, ...], Any]]:
  """Shape and dtype of each array of a batch."""
  is_lm, rows, length = work.task.kind == 'lm', work.config.train.batch_size, work.max_length
  every, each = (1, rows, length), (1, rows, length if is_lm else 1)
  names = ['input_ids', 'segment_ids', 'position_ids'] + ['token_type_ids'] * (not is_lm)
  labels = np.float32 if work.task.kind == 'regression' else np.int32
  return {
    **{name: (every, np.int32) for name in names},
    'prediction_positions': (each, np.int32),
    'labels': (each, labels),
    'weights': (each, np.float32),
  }
