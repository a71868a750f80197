"""Configs to plan with: a run's config with other sizes, and the paper's claims for GPT-3 175B."""

from __future__ import annotations

from collections.abc import Mapping

from ml_collections import config_dict

from lora_jax.cost import practical_claims, shapes
from lora_jax.cost.memory import changed
from lora_jax.data import glue
from lora_jax.train import layer_choice


def with_sizes(
  config: config_dict.ConfigDict,
  *,
  batch_size: int = 0,
  length: int = 0,
  dtype: str = '',
  examples: int = 0,
  as_configured: bool = False,
) -> config_dict.ConfigDict:
  """A copy of a config with other sizes; 0 and '' keep the config's own.

  Args:
    config: of a run.
    batch_size: examples of a global batch.
    length: tokens of an example.
    dtype: of the computation and of the base.
    examples: training examples, of a task of known size at most its own.
    as_configured: whether to keep the config's scan and remat. Otherwise layers are scanned, unless
      the method tells them apart, and those of language models rematerialized in full: the
      compilation of looped layers takes as many times longer as there are layers.

  Raises:
    ValueError: for more examples than the task has.
  """
  if examples > (known := shapes.EXAMPLES.get(config.task, examples)):
    raise ValueError(
      f'examples={examples}: {config.task} has {known} for training, and a run takes no more. Give '
      'fewer, or none for all of them.'
    )
  sizes: dict[str, object] = {
    'train.batch_size': batch_size,
    'data.max_length': length,
    'model.dtype': dtype,
    'model.param_dtype': dtype,
    'data.limit': examples,
  }
  values = {name: value for name, value in sizes.items() if value}
  if not as_configured:
    values['model.scan'] = layer_choice.can_be_scanned(config)
    if config.model.remat == 'none' and config.task not in glue.TASKS:
      values['model.remat'] = 'full'
  return changed(config, **values)


def for_claims(config: config_dict.ConfigDict, sizes: Mapping[str, int]) -> config_dict.ConfigDict:
  """A config of GPT-3 175B in bfloat16, with a method's sizes, at the claims' batch and length."""
  virtual = sizes.get('prefix', 0) + sizes.get('infix', 0)  # They count among the positions.
  values: dict[str, object] = {f'method.{name}': size for name, size in sizes.items()}
  values |= {'model.dtype': 'bfloat16', 'model.param_dtype': 'bfloat16', 'model.scan': True}
  values |= {'model.remat': 'full', 'train.batch_size': practical_claims.BATCH}
  return changed(config, **values, **{'data.max_length': practical_claims.LENGTH - virtual})
