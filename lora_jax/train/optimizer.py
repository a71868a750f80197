"""AdamW with linear warm-up and decay, as the paper's runs used it (tables 9 and 11)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from lora_jax import tree

Number = float | jax.Array  # Inside a sweep's program a number of each member is an array.
Schedule = Callable[[Any], jax.Array]


class Hyperparameters(NamedTuple):
  """The numbers in which two optimizers of one form may differ.

  Attributes:
    lr: the largest learning rate.
    weight_decay: AdamW's, decoupled.
    warmup: number of updates until the rate is `lr`.
    total: number of updates of the whole run.
  """

  lr: Number
  weight_decay: Number
  warmup: Number
  total: Number


def hyperparameters(config: ConfigDict, total_steps: int) -> Hyperparameters:
  """The hyperparameters of a run of `total_steps`, from the section `config.optim`.

  `warmup_steps` takes precedence over `warmup_ratio` when it is nonzero; a ratio of the steps is
  rounded up.

  Raises:
    ValueError: for a warm-up longer than the run.
  """
  warmup = config.warmup_steps or math.ceil(config.warmup_ratio * total_steps)
  if warmup > total_steps:
    raise ValueError(f'optim.warmup_steps={warmup} exceeds the {total_steps} steps of the run')
  return Hyperparameters(config.lr, config.weight_decay, warmup, total_steps)


def make_schedule(kind: str, of: Hyperparameters) -> Schedule:
  """Learning rate by number of updates made: from 0 up to `lr`, then to 0 (or constant)."""

  def schedule(step: Any) -> jax.Array:
    rising = step / jnp.maximum(of.warmup, 1)
    falling = (of.total - step) / jnp.maximum(of.total - of.warmup, 1) if kind == 'linear' else 1.0
    return of.lr * jnp.where(step < of.warmup, rising, jnp.clip(falling, 0.0, 1.0))

  return schedule


def transformation(config: ConfigDict, of: Hyperparameters) -> optax.GradientTransformation:
  """The optimizer of the section `config.optim`, with hyperparameters that replace the config's.

  The clip is of the trainable gradients' global norm; 0 is none. Weight decay is decoupled and
  skips biases and LayerNorms, as the Hugging Face trainer groups them; it applies to the factors
  and to the head's kernels.
  """
  schedule = make_schedule(config.schedule, of)
  adam = optax.adamw(
    schedule, config.beta1, config.beta2, config.eps, weight_decay=of.weight_decay, mask=decays
  )
  return optax.chain(optax.clip_by_global_norm(config.clip), adam) if config.clip else adam


def make_optimizer(
  config: ConfigDict, total_steps: int
) -> tuple[optax.GradientTransformation, Schedule]:
  """(optimizer, schedule) of a run; see `hyperparameters` and `transformation`."""
  of = hyperparameters(config, total_steps)
  return transformation(config, of), make_schedule(config.schedule, of)


def decays(params: tree.Params) -> tree.Params:
  """True for the leaves that weight decay applies to: all but biases and LayerNorm scales."""
  return tree.unflatten(
    {path: path.rpartition('/')[2] not in ('bias', 'scale') for path in tree.paths(params)}
  )
