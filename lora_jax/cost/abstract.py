"""A config's model, method and train step as shapes: what a job is, without its data or weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import config_dict

from lora_jax import errors, methods, tree
from lora_jax.data import glue
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import job, mesh, optimizer, rundir, state, step

# Training examples, by the official files.
EXAMPLES = {
  'mnli': 392_702, 'qqp': 363_846, 'qnli': 104_743, 'sst2': 67_349, 'cola': 8_551,
  'stsb': 5_749, 'mrpc': 3_668, 'rte': 2_490, 'e2e': 42_061,
  'wikisql': 56_355, 'samsum': 14_732, 'mnli_text': 392_702,
}  # fmt: skip


class Planned(NamedTuple):
  """A job as shapes.

  Attributes:
    config: the run's.
    model, method: as in a run.
    kind: the task's.
    frozen, trainable: trees of `jax.ShapeDtypeStruct`.
    apply: `apply(frozen, trainable, **inputs)`.
    summary: counts.
  """

  config: config_dict.ConfigDict
  model: nn.Module
  method: methods.Method
  kind: str
  frozen: Any
  trainable: Any
  apply: Callable[..., Any]
  summary: methods.Summary

  @property
  def family(self) -> str:
    return self.model.config.family

  @property
  def length(self) -> int:
    """Tokens of a row: the config's, and those that the method puts in."""
    return self.config.data.max_length + sum(self.method.virtual)

  @property
  def steps(self) -> int | None:
    """Updates of the whole run, or None where the number of examples is not known."""
    data, train = self.config.data, self.config.train
    examples = EXAMPLES.get(self.config.task)
    if data.limit:
      examples = min(data.limit, examples or data.limit)
    return examples and math.ceil(examples / train.batch_size) * train.epochs


def abstract(config: config_dict.ConfigDict) -> Planned:
  """What a config names, as shapes. No weights are read; of a folder only its config.json.

  Raises:
    ValueError: for an unknown model, a method that does not fit, or rows that are longer than the
      model's positions.
  """
  told = glue.TASKS.get(config.task)
  kind = told.kind if told else 'lm'
  options = job.model_options(config) | {'scan': config.model.scan, 'task': kind}
  if told:
    options['num_labels'] = len(told.classes) or 1
  model = huggingface.make_model(architecture(config), **options)
  method = job.make_method(config, model)
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  params = jax.eval_shape(model.init, key, tokens)['params']

  def split(key: Any, params: Any) -> tuple[Any, Any]:
    frozen, trainable = method.init(key, model, params, tokens)
    return frozen, tree.cast(trainable, np.float32)

  frozen, trainable = jax.eval_shape(split, key, params)
  summary = methods.summarize(method, frozen, trainable, model.head)
  apply = methods.bind(model.apply, method)
  made = Planned(config, model, method, kind, frozen, trainable, apply, summary)
  if made.length > model.config.max_positions:
    raise ValueError(
      f'rows of {made.length} tokens, but {config.model.name} has {model.config.max_positions} '
      'positions. Lower config.data.max_length.'
    )
  return made


def architecture(config: config_dict.ConfigDict) -> presets.Config:
  """The architecture that a config names: a preset's, one from plain values, or a folder's.

  Raises:
    ValueError: if there is none of that name; near ones are offered.
  """
  name = config.model.name
  if name == 'fresh':
    return presets.architecture(**config.model.fresh)
  if name in presets.PRESETS:
    return presets.PRESETS[name].config
  if rundir.is_run(name):
    return architecture(rundir.read_config(name))
  folder = Path(name).expanduser()
  if not (folder / 'config.json').is_file():
    known = [*presets.PRESETS, 'fresh']
    raise ValueError(
      f'model {name!r} is neither a preset nor a folder. {errors.nearest(name, known)}'
    )
  return huggingface.read_config(folder)


def trace(made: Planned, devices: jax.sharding.Mesh) -> tuple[Any, tuple[Any, Any, Any]]:
  """The train step of a run, traced, and the shapes of its state, frozen base and batch.

  Every shape has its sharding. A batch is `train.batch_size` rows of full length; a language model
  is read out at every position.

  Raises:
    ValueError: if the mesh cannot split the batch or a leaf.
  """
  config = made.config
  shares = mesh.check_batch(devices, config.train.batch_size, config.train.accumulate)
  if config.train.batch_size % shares:
    raise ValueError(
      f'train.batch_size={config.train.batch_size} is no multiple of {shares}: the rows of '
      f'{dict(devices.shape)}, {config.train.accumulate} accumulation steps'
    )
  warmup = config.optim.warmup_steps
  tx, _ = optimizer.make_optimizer(config.optim, max(made.steps or 0, warmup + 1, 1000))
  now = jax.eval_shape(lambda x: state.init_state(x, tx, config.seed), made.trainable)
  placed = mesh.state_shardings(now, devices, made.family)
  now = _placed(now, placed)
  frozen = _placed(made.frozen, mesh.shardings(made.frozen, devices, made.family))
  batch = {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.rows(devices))
    for name, (shape, dtype) in _batch(made).items()
  }
  train_step = step.make_train_step(
    made.apply,
    tx,
    made.kind,
    smoothing=config.train.label_smoothing,
    accumulate=config.train.accumulate,
    shardings=placed,
  )
  return train_step.trace(now, frozen, batch), (now, frozen, batch)


def bytes_per_device(shapes: Any) -> int:
  """Bytes that shapes with shardings take on each device."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * np.dtype(x.dtype).itemsize
    for x in jax.tree.leaves(shapes)
  )


def _placed(shapes: Any, where: Any) -> Any:
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, where
  )


def _batch(made: Planned) -> dict[str, tuple[tuple[int, ...], Any]]:
  rows, length = made.config.train.batch_size, made.length
  every, each = (1, rows, length), (1, rows, length if made.kind == 'lm' else 1)
  names = ['input_ids', 'segment_ids', 'position_ids']
  if made.kind != 'lm':
    names.append('token_type_ids')
  labels = np.float32 if made.kind == 'regression' else np.int32
  return {
    **{name: (every, np.int32) for name in names},
    'prediction_positions': (each, np.int32),
    'labels': (each, labels),
    'weights': (each, np.float32),
  }
