"""What a config says of its base: architecture, options of the model, head and quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import config_dict

from lora_jax import errors, files, quantization
from lora_jax.data import tasks
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import rundir
from lora_jax.tree import Params

Options = dict[str, Any]  # Of `huggingface.load_model` and `huggingface.fresh_model`.
RATES = ('hidden_dropout', 'attention_dropout', 'classifier_dropout')


def model_options(config: config_dict.ConfigDict) -> Options:
  """The attributes of a model that a config names, except the layout of its layers."""
  chosen = config.model
  return {
    'dtype': _dtype('model.dtype', chosen.dtype),
    'param_dtype': _dtype('model.param_dtype', chosen.param_dtype),
    'attention': chosen.attention,
    'remat': chosen.remat,
    **{rate: chosen[rate] for rate in RATES if chosen[rate] is not None},
  }


def model_arguments(config: config_dict.ConfigDict, task: tasks.Task) -> Options:
  """The arguments of a model that a config and a task determine, beside its architecture."""
  arguments = model_options(config) | {'scan': bool(config.model.scan), 'task': task.kind}
  return arguments if task.kind == 'lm' else arguments | {'num_labels': task.num_labels}


def architecture(config: config_dict.ConfigDict) -> presets.Config:
  """The architecture that a config names: a preset's, one from plain values, or a folder's.

  Raises:
    ValueError: for an unknown name; the nearest names are listed.
  """
  name = config.model.name
  if name == 'fresh':
    return presets.architecture(**config.model.fresh)
  if name in presets.PRESETS:
    return presets.PRESETS[name].config
  if rundir.is_run(name):
    return architecture(rundir.read_config(name))
  folder = files.on_disk(name)
  if not folder.exists():
    known = [*presets.PRESETS, 'fresh']
    nearest = errors.nearest(name, known)
    raise ValueError(f'model {name!r} is neither a preset nor a folder. {nearest}')
  return huggingface.read_config(huggingface.locate(folder))


def head_choice(config: config_dict.ConfigDict) -> str:
  """`fresh` or `keep`. A base that is a run on the same task keeps its head: it is not foreign.

  Raises:
    ValueError: for another choice.
  """
  choice = config.model.get('head', 'fresh')
  if choice not in ('fresh', 'keep'):
    raise ValueError(f'config.model.head={choice!r}. {errors.nearest(choice, ("fresh", "keep"))}')
  name = config.model.name
  if not rundir.is_run(name):
    return choice
  base = rundir.read_config(name)
  same = (base.task, rundir.own_files(base)) == (config.task, rundir.own_files(config))
  return 'keep' if same else choice


def quantization_of(config: config_dict.ConfigDict) -> str:
  """How the base's kernels are kept; a config of an older version does not say."""
  return config.model.get('quantize', 'none')


def quantized(config: config_dict.ConfigDict, params: Params) -> Params:
  """The parameters of a base that is not read from a file, or their shapes, as the config says.

  Raises:
    ValueError: for `file`.
  """
  choice = quantization_of(config)
  if choice == 'file':
    raise ValueError(
      f'config.model.quantize=file keeps the codes of a GGUF file, and {config.model.name!r} is '
      f'none. Choose one of none, {", ".join(quantization.ENCODERS)}.'
    )
  return params if choice == 'none' else quantization.quantize(params, choice)


def _dtype(key: str, name: str) -> np.dtype:
  known = ('float32', 'bfloat16', 'float16')
  if name not in known:
    raise ValueError(f'config.{key}={name!r}: choose one of {", ".join(known)}')
  return np.dtype(name)
