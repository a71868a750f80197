"""What a method costs at inference: compiled forward passes, compared as programs and timed."""

from __future__ import annotations

import itertools
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import tree
from lora_jax.methods import Method, bind

SOURCE_LINES = r'^(FileNames|FunctionNames|FileLocations|StackFrames)\n(\d+ .*\n)*'


class LoadedModel(NamedTuple):
  """A model and its parameters, called with ids int32 [batch, length]."""

  model: nn.Module
  params: tree.Params


class Passes(NamedTuple):
  """How many forward passes to time.

  Attributes:
    trials: counted passes of each variant, at least 2.
    warm_up: passes of each variant before them.
    limit: seconds of counted passes after which no further round begins, once there are two; the
      row of a variant says how many there were.
  """

  trials: int
  warm_up: int
  limit: float = math.inf


class Row(TypedDict):
  """Milliseconds of a pass, and by how many per cent it is slower than the first variant's.

  The slow-down is that of the medians: a pause of the machine affects the mean, but not them.
  """

  mean: float
  sd: float
  median: float
  slowdown: float
  trials: int
  trained: int


class Variant(NamedTuple):
  """A compiled forward pass with its parameters, and how many of these a method trained."""

  run: jax.stages.Compiled
  parameters: tuple[tree.Params, ...]
  trained: int

  def seconds(self, ids: jax.Array) -> float:
    """Wall-clock seconds of one pass, up to its output."""
    began = time.perf_counter()
    jax.block_until_ready(self.run(*self.parameters, ids))
    return time.perf_counter() - began

  def program(self) -> str:
    """The compiled HLO as text, without the source lines that it came from."""
    text = re.sub(r',? metadata=\{[^}]*\}', '', self.run.as_text() or '')
    return re.sub(SOURCE_LINES, '', text, flags=re.M)


def bare(base: LoadedModel, ids: jax.Array) -> Variant:
  """The model without a method."""
  return _compile(_forward(base.model), ids, 0, base.params)


def beside(base: LoadedModel, ids: jax.Array, method: Method) -> Variant:
  """The model with a method's parameters beside its own."""
  frozen, trainable = _split(base, ids, method)
  apply = bind(base.model.apply, method)
  return _compile(apply, ids, tree.count(trainable), frozen, trainable)


def merged(base: LoadedModel, ids: jax.Array, method: Method) -> Variant:
  """The model with a method merged into its weights.

  Raises:
    ValueError: if the method cannot be merged.
  """
  frozen, trainable = _split(base, ids, method)
  params = method.merge(frozen, trainable)
  return _compile(_forward(base.model), ids, tree.count(trainable), params)


def compare(
  base: LoadedModel, ids: jax.Array, lora: Method, adapters: Mapping[str, Method]
) -> dict[str, Variant]:
  """The model bare, with LoRA merged and beside it, and with each adapter, by name.

  Merged LoRA needs no measurement to show that it costs nothing: its compiled program equals that
  of the bare model, which is asserted.
  """
  variants = {
    'bare': bare(base, ids),
    'lora, merged': merged(base, ids, lora),
    'lora, beside': beside(base, ids, lora),
    **{name: beside(base, ids, method) for name, method in adapters.items()},
  }
  assert variants['bare'].program() == variants['lora, merged'].program(), (
    'the merged model is compiled to another program than the bare one'
  )
  return variants


def time_variants(
  variants: Mapping[str, Variant], ids: jax.Array, passes: Passes
) -> dict[str, Row]:
  """Times the variants, which take turns, so that a machine whose speed drifts favors none."""
  times: dict[str, list[float]] = {name: [] for name in variants}
  for turn in range(-passes.warm_up, passes.trials):
    if turn >= 2 and sum(map(sum, times.values())) > 1000 * passes.limit:
      break
    for name, variant in variants.items():
      milliseconds = 1000 * variant.seconds(ids)
      if turn >= 0:
        times[name].append(milliseconds)
  medians = {name: statistics.median(values) for name, values in times.items()}
  first = next(iter(medians.values()))
  return {
    name: {
      'mean': statistics.fmean(values),
      'sd': statistics.stdev(values),
      'median': medians[name],
      'slowdown': 100 * (medians[name] / first - 1),
      'trials': len(values),
      'trained': variants[name].trained,
    }
    for name, values in times.items()
  }


def measure_settings(
  base: LoadedModel,
  settings: Mapping[str, Mapping[str, Method]],
  lora: Method,
  passes: Passes,
) -> Iterator[tuple[str, dict[str, Row]]]:
  """Rows of the variants of `compare` at each setting.

  Args:
    base: the model.
    settings: the adapters of each setting, by `BATCHxLENGTH`.
    lora: merged and beside the model.
    passes: how many to time.
  """
  for setting, adapters in settings.items():
    batch, length = map(int, setting.split('x'))
    ids = tokens(base, batch, length)
    yield setting, time_variants(compare(base, ids, lora, adapters), ids, passes)


def measure_grid(
  base: LoadedModel,
  batches: Sequence[int],
  lengths: Sequence[int],
  adapters: Mapping[str, Method],
  passes: Passes,
) -> Iterator[tuple[int, int, dict[str, Row]]]:
  """Batch, length, and rows of the bare model and each adapter, for every length and batch."""
  for length, batch in itertools.product(lengths, batches):
    ids = tokens(base, batch, length)
    variants = {'bare': bare(base, ids)}
    variants |= {name: beside(base, ids, method) for name, method in adapters.items()}
    yield batch, length, time_variants(variants, ids, passes)


def tokens(base: LoadedModel, batch: int, length: int) -> jax.Array:
  """Random ids [batch, length] of the model's vocabulary."""
  random = np.random.default_rng(0)
  return jnp.asarray(random.integers(0, base.model.config.vocab_size, (batch, length)), jnp.int32)


def _forward(model: nn.Module) -> Callable[..., object]:
  return lambda params, ids: model.apply({'params': params}, ids)


def _compile(
  apply: Callable[..., object], ids: jax.Array, trained: int, *parameters: tree.Params
) -> Variant:
  return Variant(jax.jit(apply).lower(*parameters, ids).compile(), parameters, trained)


def _split(base: LoadedModel, ids: jax.Array, method: Method) -> tuple[tree.Params, tree.Params]:
  """The frozen and the trainable part; the latter is moved off zero, as training does."""
  frozen, trainable = method.init(jax.random.key(0), base.model, base.params, ids)
  leaves = tree.flatten(trainable)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = {
    path: leaf + 0.01 * jax.random.normal(key, leaf.shape)
    for (path, leaf), key in zip(leaves.items(), keys)
  }
  return frozen, tree.unflatten(moved)
