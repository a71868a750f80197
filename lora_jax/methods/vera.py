"""VeRA, arXiv 2310.11454: random factors that all modules share, and two trained vectors in each.

    h = W x + diag(b) B diag(d) A x

A and B stay as they are drawn; a module of other sizes takes their first columns and rows. So a
model has one pair, at its root, and each adapted module `vera_d` [r] and `vera_b` [k]:

    {'vera_projections': {'a': [d, r], 'b': [r, k]},
     'query': {'kernel': [d, k], 'bias': [k], 'vera_d': [r], 'vera_b': [k]}}

Both are saved with a run, though the seed alone gives them: PEFT's generator is reproduced here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lora_jax import ops, tree
from lora_jax.methods import initial, lowrank, sites
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.interception import (
  Args,
  Context,
  Interceptor,
  Kwargs,
  Next,
  carried,
  carrying,
)
from lora_jax.methods.lora import QUERY_VALUE
from lora_jax.methods.lowrank import Factor, Shape
from lora_jax.methods.models import Model
from lora_jax.methods.options import recorded

PROJECTIONS = 'vera_projections'  # The subtree of the shared pair.
VECTORS = ('vera_d', 'vera_b')  # Names of a module's leaves.


class Pair(NamedTuple):
  """The shared factors, a [d, r] and b [r, k], or a module's part of them."""

  a: Factor
  b: Factor

  def part(self, inputs: Shape, outputs: Shape) -> Pair:
    """The factors [inputs..., r] and [r, outputs...] of a module with these axes."""
    a, b = self.a[: math.prod(inputs)], self.b[:, : math.prod(outputs)]
    return Pair(a.reshape(*inputs, -1), b.reshape(-1, *outputs))


class _Carried:
  """The shared factors in one call of a model, equal if they are the same arrays.

  JAX keeps a program that it traced by what is carried around it: one of other factors is another.
  """

  def __init__(self, pair: Pair):
    self.pair = pair
    self._key = (id(pair.a), id(pair.b))  # The arrays are held, so that no others get their ids.

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _Carried) and self._key == other._key

  def __hash__(self) -> int:
    return hash(self._key)


def _interceptor(dropout: float) -> Interceptor:
  def intercept(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    module = context.module
    if module.path or not module.has_variable('params', PROJECTIONS):
      return add(next_fun, args, kwargs, context)
    pair = module.get_variable('params', PROJECTIONS)
    with carrying(_Carried(Pair(*(pair[name] for name in Pair._fields)))):
      return add(next_fun, args, kwargs, context)

  def add(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    wx = next_fun(*args, **kwargs)
    module, layer, shared = context.module, lowrank.layer_of(context.module), carried(_Carried)
    if layer is None or shared is None or context.method_name not in layer.methods:
      return wx
    if not module.has_variable('params', VECTORS[0]):
      return wx
    d, b = (jnp.asarray(module.get_variable('params', name)) for name in VECTORS)
    (x,) = lowrank.arguments(args, kwargs)
    if dropout and module.has_rng('dropout'):
      x = ops.drop(module.make_rng('dropout'), dropout, x)
    weight = module.get_variable('params', layer.weight)
    fixed = shared.pair.part(weight.shape[: weight.ndim - b.ndim], b.shape)
    factors = map(lax.stop_gradient, fixed)
    update = layer.update(module, context.method_name, *factors, x, d).astype(wx.dtype)
    return wx + jnp.expand_dims(b, tuple(range(wx.ndim - b.ndim))).astype(wx.dtype) * update

  return intercept


@recorded
def vera(
  *,
  rank: int | Mapping[str, int],
  targets: str | Sequence[str] = QUERY_VALUE,
  train: str | Sequence[str] = (),
  dropout: float = 0.0,
  d_initial: float = 0.1,
  projection_seed: int = 0,
) -> Method:
  """VeRA on chosen dense layers of any Flax model, computed as PEFT computes it.

  At initialization the adapted model is the base model, to the last bit.

  Args:
    rank: r, one number for all modules; the paper's is 256 to 1024, at some ten times LoRA's rate.
    targets, train: as for `lora`.
    dropout: rate on the input of the factors; off in deterministic calls.
    d_initial: where each number of `vera_d` starts; `vera_b` starts at zero.
    projection_seed: of the shared factors. A run's own seed does not change them.

  Raises:
    ValueError: as `lora` does; from `init` also for a layer that is not dense.
  """
  targets, train = tree.as_patterns(targets), tree.as_patterns(train)
  if isinstance(rank, Mapping):
    raise ValueError(f'vera: rank={rank!r}: expected one number, as all modules share the factors')
  sites.check_options('vera', rank, 1.0, targets, dropout)
  if not 0 < d_initial < math.inf:
    raise ValueError(f'vera: d_initial={d_initial!r}: expected a positive number')

  def split(
    key: jax.Array, model: Model, params: Params, *inputs: Any, **kwargs: Any
  ) -> tuple[Tree, Tree]:
    del key
    found = sites.find('vera', rank, 1.0, targets, model, *inputs, **kwargs)
    initial.check_matrices('vera', found)
    leaves = tree.flatten(nn.unbox(params))
    sites.check_params(found, leaves)
    trained = {path for paths in tree.match(train, leaves).values() for path in paths}
    frozen = {path: leaf for path, leaf in leaves.items() if path not in trained}
    chosen = {path: leaf for path, leaf in leaves.items() if path in trained}
    fan_out = lambda site: math.prod(_outputs(site))
    largest = (max(map(size, found.values())) for size in (lambda site: site.fan_in, fan_out))
    pair = projections(projection_seed, rank, *largest)
    own = {f'{PROJECTIONS}/{name}': jnp.array(x) for name, x in pair._asdict().items()}
    for path, site in found.items():
      d, b = (sites.inside(path, name) for name in VECTORS)
      own[d] = jnp.full((*site.stack, rank), d_initial, jnp.float32)
      own[b] = jnp.zeros((*site.stack, *_outputs(site)), jnp.float32)
    return tree.unflatten(frozen), tree.unflatten(chosen | own)

  return Method(
    init=split,
    merge=_merge,
    interceptor=_interceptor(dropout),
    patterns=(*targets, *train),
    # The members of a sweep may differ in the rest: zero vectors add nothing, as zero factors.
    program=('vera', lowrank.padded_rank(rank), train, dropout),
    follows=_follows,
    fixed=lambda path: path.startswith(f'{PROJECTIONS}/'),
  )


def projections(seed: int, rank: int, inputs: int, outputs: int) -> Pair:
  """The shared factors a [inputs, r] and b [r, outputs] that PEFT draws with this seed, float32.

  They are uniform, a in +-sqrt(6 / inputs) and b in +-sqrt(6 / r) (He et al.), from the 32-bit
  numbers of the Mersenne twister, of which PyTorch takes the lower 24 bits.
  """
  source = np.random.RandomState(seed)

  def draw(shape: tuple[int, int], fan_in: int) -> np.ndarray:
    high = np.float32(math.sqrt(3.0) * (math.sqrt(2.0) / math.sqrt(fan_in)))
    bits = np.frombuffer(source.bytes(4 * math.prod(shape)), '<u4') & 0xFFFFFF
    # PyTorch multiplies and adds in float32, rounding once.
    return (bits * 2.0**-24 * np.float64(high + high) - high).astype(np.float32).reshape(shape)

  a = draw((rank, inputs), inputs)  # Before b: both are of one stream.
  return Pair(np.ascontiguousarray(a.T), np.ascontiguousarray(draw((outputs, rank), rank).T))


def factors(pair: Pair, d: Factor, b: Factor, weight: Shape) -> Pair:
  """A module's a diag(d) and b diag(b), whose product is the update of its weight; stacked or not.

  Args:
    pair: the shared factors.
    d, b: the module's vectors, [stack..., r] and [stack..., outputs...].
    weight: the shape of its weight, [stack..., inputs..., outputs...].
  """
  n_stack = d.ndim - 1
  outputs = b.shape[n_stack:]
  inputs = weight[n_stack : len(weight) - len(outputs)]
  between = tuple(range(n_stack, n_stack + len(inputs)))
  part, stack = pair.part(inputs, outputs), tuple(range(n_stack))
  scaled_a = jnp.expand_dims(part.a, stack) * jnp.expand_dims(d, between)
  return Pair(scaled_a, jnp.expand_dims(part.b, stack) * jnp.expand_dims(b, n_stack))


def _merge(frozen: Params, trainable: Params) -> Tree:
  """W + A diag(d) B diag(b) for every adapted weight W; here A and B multiply from the right."""
  leaves = tree.flatten(tree.join(frozen, trainable))
  if f'{PROJECTIONS}/a' not in leaves:
    return tree.unflatten(leaves)  # The base alone.
  pair = Pair(*(leaves.pop(f'{PROJECTIONS}/{name}') for name in Pair._fields))
  for module in [path.removesuffix(VECTORS[0]) for path in leaves if path.endswith(VECTORS[0])]:
    weight = leaves[f'{module}kernel']
    d, b = (leaves.pop(module + name) for name in VECTORS)
    update = lowrank.product(*factors(pair, d, b, weight.shape), weight.shape)
    leaves[f'{module}kernel'] = (weight.astype(jnp.float32) + update).astype(weight.dtype)
  return tree.unflatten(leaves)


def _outputs(site: sites.Site) -> Shape:
  """The axes of a module's outputs: those of `lora_b` behind its rank."""
  (shape,) = (shape for path, shape in site.factors.items() if path.endswith('lora_b'))
  return shape[len(site.stack) + 1 :]


def _follows(path: str) -> tuple[str, tuple[int | None, ...]] | None:
  """`vera_b` lies as its kernel's output."""
  module, _, name = path.rpartition('/')
  return (sites.inside(module, 'kernel'), (1,)) if name == VECTORS[1] else None
