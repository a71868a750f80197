"""The price of a method at inference: compiled forward passes, compared as programs and timed."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from lora_jax import tree
from lora_jax.methods import Method, bind

SOURCE_LINES = r'^(FileNames|FunctionNames|FileLocations|StackFrames)\n(\d+ .*\n)*'


class Base(NamedTuple):
  """A model and its parameters, called with ids int32 [batch, length]."""

  model: nn.Module
  params: tree.Params


class Variant(NamedTuple):
  """A compiled forward pass with its parameters, and how many of them a method trained."""

  run: Any
  parameters: tuple[Any, ...]
  trained: int

  def seconds(self, ids: jax.Array) -> float:
    """Wall seconds of one pass, its output waited for."""
    began = time.perf_counter()
    jax.block_until_ready(self.run(*self.parameters, ids))
    return time.perf_counter() - began

  def program(self) -> str:
    """What was compiled, as HLO text without the lines of source that it came from."""
    text = re.sub(r',? metadata=\{[^}]*\}', '', self.run.as_text())
    return re.sub(SOURCE_LINES, '', text, flags=re.M)


def bare(base: Base, ids: jax.Array) -> Variant:
  """The model as it is."""
  return _compiled(_forward(base.model), ids, 0, base.params)


def beside(base: Base, ids: jax.Array, method: Method) -> Variant:
  """The model with a method's parameters beside its own."""
  frozen, trainable = _split(base, ids, method)
  apply = bind(base.model.apply, method)
  return _compiled(apply, ids, tree.count(trainable), frozen, trainable)


def merged(base: Base, ids: jax.Array, method: Method) -> Variant:
  """The model with a method folded into its weights; a ValueError where that is not possible."""
  frozen, trainable = _split(base, ids, method)
  params = method.merge(frozen, trainable)
  return _compiled(_forward(base.model), ids, tree.count(trainable), params)


def compare(
  base: Base, ids: jax.Array, lora: Method, adapters: Mapping[str, Method]
) -> dict[str, Variant]:
  """The model bare, with LoRA merged and beside it, and with each adapter, by name.

  That merging costs nothing needs no measurement: the merged model is compiled to the very program
  of the bare one, which is asserted.
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


def timed(
  variants: Mapping[str, Variant], ids: jax.Array, trials: int, warm_up: int,
  limit: float = math.inf,
) -> dict[str, dict[str, float]]:  # fmt: skip
  """Milliseconds of a pass of each variant, and by how many per cent it is slower than the first.

  The variants take turns, so that a machine whose speed drifts favors none. The slow-down is that
  of the medians: a pause of the machine is in a mean, but not in them.

  Args:
    trials: counted passes of each, at least 2.
    warm_up: passes of each before them.
    limit: seconds of counted passes after which no further round begins, once there are two: how
      many there were is in the answer.
  """
  times: dict[str, list[float]] = {name: [] for name in variants}
  for counted in range(-warm_up, trials):
    if counted >= 2 and sum(map(sum, times.values())) > 1000 * limit:
      break
    for name, variant in variants.items():
      passed = 1000 * variant.seconds(ids)
      if counted >= 0:
        times[name].append(passed)
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


def _forward(model: nn.Module) -> Callable[..., jax.Array]:
  return lambda params, ids: model.apply({'params': params}, ids)


def _compiled(
  apply: Callable[..., jax.Array], ids: jax.Array, trained: int, *parameters: Any
) -> Variant:
  return Variant(jax.jit(apply).lower(*parameters, ids).compile(), parameters, trained)


def _split(base: Base, ids: jax.Array, method: Method) -> tuple[dict[str, Any], dict[str, Any]]:
  """The method's parts; what is trained is moved off zero, as by training."""
  frozen, trainable = method.init(jax.random.key(0), base.model, base.params, ids)
  leaves = tree.flatten(trainable)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = {
    path: leaf + 0.01 * jax.random.normal(key, leaf.shape)
    for (path, leaf), key in zip(leaves.items(), keys)
  }
  return frozen, tree.unflatten(moved)
