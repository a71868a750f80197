"""Whether a model's layers are looped or one scanned layer, where the config leaves it open.

A scanned layer is compiled once for all layers, and its step takes longer. Which one ends a run
sooner depends on the number of its steps and on the device; the parameters that it trains, and the
files that it leaves, are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from ml_collections import config_dict

from lora_jax import stacking
from lora_jax.data import tasks
from lora_jax.models import presets
from lora_jax.train import base_options, estimate, rundir


def settled(
  configs: Sequence[config_dict.ConfigDict], task: tasks.Task, platform: str
) -> list[config_dict.ConfigDict]:
  """The configs of runs that share a program, with `model.scan` chosen where it is None.

  Args:
    configs: of the runs, which agree in all that the choice depends on but their epochs.
    task: the data of one of them.
    platform: of the devices.
  """
  if not is_open(configs):
    return list(configs)
  scan = chosen(configs, task, platform)
  found = [copy.deepcopy(config) for config in configs]
  for config in found:
    config.model.scan = scan
  return found


def is_open(configs: Sequence[config_dict.ConfigDict]) -> bool:
  """Whether one of them leaves the layout of its layers open."""
  return any(config.model.scan is None for config in configs)


def chosen(configs: Sequence[config_dict.ConfigDict], task: tasks.Task, platform: str) -> bool:
  """Whether the layers of runs that share a program are scanned; see `settled`."""
  first = configs[0]
  if rundir.is_run(first.model.name):  # The base has the layout that it was trained in.
    return bool(rundir.read_config(first.model.name).model.get('scan'))
  if not len(task.train):  # Nothing to estimate; `batches.Batches` refuses it and says why.
    return False
  batch = min(first.train.batch_size, len(task.train))
  tokens = len(configs) * batch * float(task.train.lengths.mean())
  steps = -(-len(task.train) // first.train.batch_size)
  steps *= max(config.train.epochs for config in configs)
  return by_size(first, base_options.architecture(first), platform, tokens=tokens, steps=steps)


def by_size(
  config: config_dict.ConfigDict,
  architecture: presets.Config,
  platform: str,
  *,
  tokens: float,
  steps: int,
) -> bool:
  """Whether the layers of a run of so many steps are scanned, where its config leaves it open.

  Args:
    config: the run's.
    architecture: of its model.
    platform: of the devices.
    tokens: of a step.
    steps: of the run.
  """
  sooner = estimate.is_scanned_sooner(platform, architecture, tokens=tokens, steps=steps)
  return sooner and can_be_scanned(config)


def can_be_scanned(config: config_dict.ConfigDict) -> bool:
  """Whether nothing in a config tells layers apart: in one stack all are treated alike."""
  method = config.method.to_dict()
  tells_apart = 'top_layers' in method['name'] or method.get('drop', 0)
  is_coded = base_options.quantization_of(config) == 'file'
  return not (tells_apart or is_coded or stacking.names_layers(method))
