"""AdamW with linear warm-up and decay, as the paper's runs used it (tables 9 and 11)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optax

from lora_jax import tree


def make_schedule(config: Any, total_steps: int) -> Callable[[Any], Any]:
  """Learning rate by number of updates made: from 0 up to `lr`, then linearly to 0 (or constant).

  Args:
    config: `config.optim`. `warmup_steps` counts where it is not 0, else `warmup_ratio` of all,
      rounded up.
    total_steps: number of updates of the whole run.

  Raises:
    ValueError: for an unknown schedule, or a warm-up longer than the run.
  """
  warmup = config.warmup_steps or math.ceil(config.warmup_ratio * total_steps)
  if warmup > total_steps:
    raise ValueError(f'optim.warmup_steps={warmup} exceeds the {total_steps} steps of the run')
  ends = {'linear': 0.0, 'constant': config.lr}
  if config.schedule not in ends:
    raise ValueError(f'optim.schedule={config.schedule!r}: choose one of {list(ends)}')
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, config.lr, max(warmup, 1)),
      optax.linear_schedule(config.lr, ends[config.schedule], max(total_steps - warmup, 1)),
    ],
    [warmup],
  )


def make_optimizer(
  config: Any, total_steps: int
) -> tuple[optax.GradientTransformation, Callable[[Any], Any]]:
  """(optimizer, schedule). The clip is of the trainable gradients' global norm; 0 is none.

  Weight decay is decoupled and skips biases and LayerNorms, as the Hugging Face trainer groups
  them; it applies to the factors and to the head's kernels.
  """
  schedule = make_schedule(config, total_steps)
  adam = optax.adamw(
    schedule, config.beta1, config.beta2, config.eps, weight_decay=config.weight_decay, mask=decays
  )
  if not config.clip:
    return adam, schedule
  return optax.chain(optax.clip_by_global_norm(config.clip), adam), schedule


def decays(params: tree.Params) -> dict[str, Any]:
  """True for the leaves that weight decay applies to: all but biases and LayerNorm scales."""
  return tree.unflatten(
    {path: path.rpartition('/')[2] not in ('bias', 'scale') for path in tree.paths(params)}
  )
