"""A step of LoRA on a model of Flax NNX against that on the same model of Linen."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Float

from lora_jax import methods, stacking, tree
from lora_jax.bench.timing import Measured, Rounds, Row, in_turn, seconds_of
from lora_jax.cost import program
from lora_jax.nnx import adapt

WIDTH, HEADS = 256, 4
WIDTHS = {'query': WIDTH, 'key': WIDTH, 'value': WIDTH, 'out': WIDTH, 'up': 4 * WIDTH}
TARGETS = '.*/(query|key|value|up|down)'
Hidden = Float[jax.Array, 'rows length width']


def block(layer: Callable[[str], Callable[[Hidden], Hidden]], x: Hidden) -> Hidden:
  """A block of a transformer without norms, given its dense layers by name."""
  heads = lambda name: layer(name)(x).reshape(*x.shape[:-1], HEADS, -1)
  y = jax.nn.dot_product_attention(*map(heads, ('query', 'key', 'value')))
  x = x + layer('out')(y.reshape(x.shape))
  return x + layer('down')(jax.nn.gelu(layer('up')(x)))


class LinenBlock(nn.Module):
  dtype: str

  @nn.compact
  def __call__(self, x: Hidden) -> Hidden:
    return block(lambda name: nn.Dense(WIDTHS.get(name, WIDTH), dtype=self.dtype, name=name), x)


class LinenModel(nn.Module):
  layers: int
  dtype: str

  @nn.compact
  def __call__(self, x: Hidden) -> Hidden:
    for i in range(self.layers):
      x = LinenBlock(self.dtype, name=stacking.looped_name(i))(x)
    return x


class NnxBlock(nnx.Module):
  def __init__(self, dtype: str, rngs: nnx.Rngs):
    for name, width in WIDTHS.items():
      setattr(self, name, nnx.Linear(WIDTH, width, dtype=dtype, rngs=rngs))
    self.down = nnx.Linear(4 * WIDTH, WIDTH, dtype=dtype, rngs=rngs)

  def __call__(self, x: Hidden) -> Hidden:
    return block(functools.partial(getattr, self), x)


class NnxModel(nnx.Module):
  def __init__(self, layers: int, dtype: str):
    rngs = nnx.Rngs(0)
    self.layers = nnx.List([NnxBlock(dtype, rngs) for _ in range(layers)])

  def __call__(self, x: Hidden) -> Hidden:
    for layer in self.layers:
      x = layer(x)
    return x


class Step:
  """The step of a bound model, with its own state."""

  def __init__(self, apply: Callable[..., Hidden], frozen: tree.Params, trainable: tree.Params):
    self._tx = optax.adam(1e-3)
    self._frozen, self._trainable = frozen, jax.tree.map(jnp.copy, trainable)
    self._state, self._apply = self._tx.init(trainable), apply

  def compile(self, x: Hidden) -> Row:
    """Compiles it for an input; returns what is known of the program."""
    began = time.perf_counter()
    lowered = jax.jit(self._step, donate_argnums=(1, 2)).lower(
      self._frozen, self._trainable, self._state, x
    )
    tracing = time.perf_counter() - began
    self.compiled, self._x = lowered.compile(), x
    size = program.size(self.compiled)
    flops = program.flops(self.compiled)
    return {'flops': flops, 'temporary_bytes': size.temporary, 'tracing': tracing}

  def __call__(self) -> object:
    self._trainable, self._state = self.compiled(
      self._frozen, self._trainable, self._state, self._x
    )
    return self._trainable

  def _step(
    self, frozen: tree.Params, trainable: tree.Params, state: optax.OptState, x: Hidden
  ) -> tuple[optax.Params, optax.OptState]:
    loss = lambda trainable: (self._apply(frozen, trainable, x).astype(jnp.float32) ** 2).mean()
    updates, state = self._tx.update(jax.grad(loss)(trainable), state)
    return optax.apply_updates(trainable, updates), state


def optimizer_step(
  model: NnxModel, method: methods.Method, frozen: tree.Params, trainable: tree.Params, x: Hidden
) -> Callable[[], object]:
  """The same step in NNX's own style: the method in the module, trained by `nnx.Optimizer`."""
  adapted, trained = adapt(model, method, frozen, trainable)
  optimizer = nnx.Optimizer(adapted, optax.adam(1e-3), wrt=trained)

  @nnx.jit
  def step(adapted: nnx.Module, optimizer: nnx.Optimizer, x: Hidden) -> None:
    loss = lambda adapted: (adapted(x).astype(jnp.float32) ** 2).mean()
    optimizer.update(adapted, nnx.grad(loss, argnums=nnx.DiffState(0, trained))(adapted))

  def run() -> object:
    step(adapted, optimizer, x)
    return nnx.state(adapted, trained)

  return run


def compare(layers: int, rows: int, length: int, dtype: str, rounds: Rounds) -> Measured:
  """Seconds, FLOPs and temporary bytes of a step in each, and their ratios to those of Linen.

  Args:
    layers: number of blocks, of width 256.
    rows, length: of the batch.
    dtype: of compute; parameters are float32.
    rounds: how a step is timed.
  """
  x = jax.random.normal(jax.random.key(0), (rows, length, WIDTH))
  method = methods.lora(rank=8, alpha=8, targets=TARGETS)
  model, linen = NnxModel(layers, dtype), LinenModel(layers, dtype)
  frozen, trainable = method.init(jax.random.key(1), model, x)
  steps = {
    'nnx': Step(methods.bind(model, method), frozen, trainable),
    'linen': Step(methods.bind(linen, method), frozen, trainable),
  }
  rows_of = {name: step.compile(x) for name, step in steps.items()}
  runs = {'nnx.Optimizer': optimizer_step(model, method, frozen, trainable, x), **steps}
  timed = {
    name: functools.partial(seconds_of, run, rounds.dispatches) for name, run in runs.items()
  }
  seconds = in_turn(timed, rounds.count)
  found = {name: {'seconds': seconds[name], **rows_of.get(name, {})} for name in seconds}
  ratios = ('seconds', 'flops', 'temporary_bytes')
  for row in found.values():
    row |= {f'{key}_ratio': row[key] / found['linen'][key] for key in ratios if key in row}
  note = (
    f'LoRA (r=8, {TARGETS}) on {layers} blocks of width {WIDTH}, the same weights in both; ratios '
    'are to Linen. nnx.Optimizer is the same step with the method in the module, and calls it '
    f'through nnx.jit. Seconds of a step are {rounds}.'
  )
  return Measured(found, note)
