"""The check of a whole config, before anything that it names is read."""

from __future__ import annotations

from ml_collections import config_dict

from lora_jax import fields, methods
from lora_jax.data import tasks
from lora_jax.models import presets
from lora_jax.train import rundir


def check_config(config: config_dict.ConfigDict) -> None:
  """Refuses a config that cannot be run, whatever its files and devices hold.

  Raises:
    ValueError: for a field that is unknown or out of its range (`lora_jax/fields.py`); for an
      unknown task, and a method or an untrained model whose options do not fit; for fields that do
      not fit each other; for a user's own training file, which is read for the kind of the task.
  """
  fields.check(config)
  task = tasks.without_data(config.task, rundir.own_files(config))
  methods.make(**config.method.to_dict())
  if config.model.name == 'fresh':
    presets.architecture(**config.model.fresh)
  train, plus = config.train, config.optim.get('lora_plus', 1.0)
  if plus != 1 and 'lora' not in config.method.name.split('+'):
    raise ValueError(
      f'config.optim.lora_plus={plus} is of the factors of lora, and the method is '
      f'{config.method.name}. Set it to 1.'
    )
  if train.label_smoothing and task.kind == 'regression':
    raise ValueError(
      f'config.train.label_smoothing={train.label_smoothing}: {config.task} is a regression, whose '
      'targets are no classes to smooth. Set it to 0.'
    )
  if train.accumulate > train.batch_size:
    raise ValueError(
      f'config.train.accumulate={train.accumulate} divides a batch of config.train.batch_size='
      f'{train.batch_size} examples into more microbatches than it has examples'
    )
