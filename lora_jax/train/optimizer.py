"""AdamW with linear warm-up and decay, as the paper's runs used it (tables 9 and 11)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from lora_jax import tree
from lora_jax.methods import Method
from lora_jax.methods.initial import starts_at_zero

Number = float | jax.Array  # Inside a sweep's program a number of each member is an array.
Schedule = Callable[[Any], jax.Array]
Chosen = Callable[[str], bool]  # Of a leaf's path.


class Hyperparameters(NamedTuple):
  """The numbers in which two optimizers of one form may differ.

  Attributes:
    lr: the largest learning rate.
    weight_decay: AdamW's, decoupled.
    warmup: number of updates until the rate is `lr`.
    total: number of updates of the whole run.
    lora_plus: the factor on the rate of the leaves of `Groups.fast`.
  """

  lr: Number
  weight_decay: Number
  warmup: Number
  total: Number
  lora_plus: Number = 1.0


class Groups(NamedTuple):
  """The leaves that are not updated as all others are; `Job.groups` has those of a method.

  Attributes:
    fast: those at another rate, the factors that start at zero (LoRA+, arXiv 2402.12354).
    fixed: those that stay. Their gradient is zero; they get neither moments nor weight decay.
  """

  fast: Chosen = lambda path: False
  fixed: Chosen = lambda path: False


NONE = Groups()


def groups(method: Method, frozen: tree.Params) -> Groups:
  """The groups of a method's leaves, beside these frozen ones."""
  weights = set(tree.paths(frozen))
  return Groups(lambda path: starts_at_zero(path, weights), method.fixed)


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
  return Hyperparameters(
    config.lr, config.weight_decay, warmup, total_steps, config.get('lora_plus') or 1.0
  )


def check_rates(config: ConfigDict, total_steps: int) -> None:
  """Refuses a run of which no update has a rate above 0, unless the config asks for rate 0.

  Raises:
    ValueError: for a run of one step that is warm-up.
  """
  if config.lr and total_steps == 1 and hyperparameters(config, total_steps).warmup:
    raise ValueError(
      'the run has 1 step, and the first step of a warm-up has learning rate 0: nothing would be '
      'trained. Make more steps (a larger config.train.epochs or a smaller '
      'config.train.batch_size), or leave out the warm-up (config.optim.warmup_ratio=0 and '
      'config.optim.warmup_steps=0).'
    )


def make_schedule(kind: str, of: Hyperparameters) -> Schedule:
  """Learning rate by number of updates made: from 0 up to `lr`, then to 0 (or constant)."""

  def schedule(step: Any) -> jax.Array:
    rising = step / jnp.maximum(of.warmup, 1)
    falling = (of.total - step) / jnp.maximum(of.total - of.warmup, 1) if kind == 'linear' else 1.0
    return of.lr * jnp.where(step < of.warmup, rising, jnp.clip(falling, 0.0, 1.0))

  return schedule


def transformation(
  config: ConfigDict, of: Hyperparameters, groups: Groups = NONE
) -> optax.GradientTransformation:
  """The optimizer of the section `config.optim`, with hyperparameters that replace the config's.

  The clip is of the trainable gradients' global norm; 0 is none. Weight decay is decoupled and
  skips biases and LayerNorms, as the Hugging Face trainer groups them; it applies to the factors
  and to the head's kernels. Of `groups.fast` it is faster by the factor of the rate, as in PEFT.
  """
  schedule = make_schedule(config.schedule, of)
  decays = lambda path: path.rpartition('/')[2] not in ('bias', 'scale')
  mask = lambda params: tree.unflatten({path: decays(path) for path in tree.paths(params)})
  adam = optax.adamw(
    schedule, config.beta1, config.beta2, config.eps, weight_decay=of.weight_decay, mask=mask
  )
  tx = optax.chain(optax.clip_by_global_norm(config.clip), adam) if config.clip else adam
  has_plus = not (isinstance(of.lora_plus, float) and of.lora_plus == 1)

  # What `methods.masked` does for any tree; that would wrap the state in nodes of its own, of which
  # the checkpoints of runs that were begun have none.
  def moving(params: optax.Params) -> tree.Tree:
    leaves = tree.flatten(cast(tree.Params, params))
    return tree.unflatten({path: x for path, x in leaves.items() if not groups.fixed(path)})

  def faster(path: str, x: jax.Array) -> jax.Array:
    return of.lora_plus * x if has_plus and groups.fast(path) else x

  def update(
    updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
  ) -> tuple[optax.Updates, optax.OptState]:
    leaves = tree.flatten(cast(tree.Params, updates))
    still = {path: jnp.zeros_like(x) for path, x in leaves.items() if groups.fixed(path)}
    updates, state = tx.update(moving(updates), state, None if params is None else moving(params))
    moved = tree.flatten(cast(tree.Params, updates))
    return tree.unflatten(still | {path: faster(path, x) for path, x in moved.items()}), state

  return optax.GradientTransformation(lambda params: tx.init(moving(params)), update)


def make_optimizer(
  config: ConfigDict, total_steps: int, groups: Groups = NONE
) -> tuple[optax.GradientTransformation, Schedule]:
  """(optimizer, schedule) of a run; see `hyperparameters` and `transformation`."""
  of = hyperparameters(config, total_steps)
  return transformation(config, of, groups), make_schedule(config.schedule, of)
