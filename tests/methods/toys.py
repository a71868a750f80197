"""Small models that are not this project's own, to adapt in tests."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from lora_jax import lora

KEY = jax.random.key(0)


class Block(nn.Module):
  """A block that this project's models do not use: plain Flax, query and value by name."""

  @nn.compact
  def __call__(self, x, _=None):
    q, v = nn.Dense(6, name='query')(x), nn.Dense(6, name='value')(x)
    return x + nn.Dense(x.shape[-1], name='out')(jnp.tanh(q) * v), None


class Stack(nn.Module):
  layout: str = 'loop'
  depth: int = 3

  @nn.compact
  def __call__(self, x, deterministic=True):
    block = nn.remat(Block) if 'remat' in self.layout else Block
    if 'scan' in self.layout:
      scanned = nn.scan(
        block, {'params': 0}, split_rngs={'params': True, 'dropout': True}, length=self.depth
      )
      x, _ = scanned(name='layers')(x, None)
    else:
      for i in range(self.depth):
        x, _ = block(name=f'layers_{i}')(x)
    return nn.Dense(2, name='classifier')(x)


class Experts(nn.Module):
  """Kernels stacked by `nn.vmap`, inside another module."""

  @nn.compact
  def __call__(self, x):
    experts = nn.vmap(nn.Dense, {'params': 0}, {'params': True}, in_axes=None, axis_size=3)
    return experts(4, name='query')(x).sum(0)


class One(nn.Module):
  """A single layer, named `query`."""

  layer: functools.partial

  @nn.compact
  def __call__(self, x):
    return self.layer(name='query')(x)


def one(kind, *args, **kwargs):
  return One(functools.partial(kind, *args, **kwargs))


class Tied(nn.Module):
  """One embedding looked up and attended to."""

  @nn.compact
  def __call__(self, ids):
    embed = nn.Embed(11, 6, name='query')
    return embed.attend(nn.Dense(6)(embed(ids)))


class Called(nn.Module):
  """An einsum whose equation comes with the call, by keyword."""

  @nn.compact
  def __call__(self, x):
    return nn.Einsum((2, 6, 3), name='query')(inputs=x, einsum_str='...d,ndh->...nh')


X = jax.random.normal(jax.random.key(1), (4, 5, 6))
IMAGE = jax.random.normal(jax.random.key(2), (2, 7, 8, 4))
IDS = jnp.arange(8).reshape(2, 4)

# Models whose adapted modules are named `query` (and `value`), with their inputs.
CASES = {
  'loop': (Stack('loop'), X),
  'scan': (Stack('scan'), X),
  'remat': (Stack('remat'), X),
  'scan+remat': (Stack('scan+remat'), X),
  'vmap': (Experts(), X),
  'general': (one(nn.DenseGeneral, (2, 3)), X),
  'general-axes': (one(nn.DenseGeneral, (2, 3), axis=(1, -1)), X),
  'general-batch': (
    one(nn.DenseGeneral, 3, axis=-1, batch_dims=(0,)),
    X,
  ),
  'einsum-in-out': (one(nn.Einsum, (6, 2, 3), '...d,dnh->...nh'), X),
  'einsum-out-in-out': (one(nn.Einsum, (2, 6, 3), 'BTD,NDH->BTNH'), X),
  'einsum-square': (one(nn.Einsum, (6, 6), 'btd,ed->bte'), X),
  'einsum-two-in': (one(nn.Einsum, (5, 3, 6), 'btd,ted->be'), X),
  'einsum-batch': (one(nn.Einsum, (5, 6, 3), 'btd,tdh->tbh'), X),
  'einsum-called': (Called(), X),
  'conv': (one(nn.Conv, 6, (3, 3)), IMAGE),
  'conv-strides': (
    one(nn.Conv, 6, (3, 2), strides=(2, 1), padding='VALID'),
    IMAGE,
  ),
  'conv-groups': (
    one(nn.Conv, 6, (3, 3), feature_group_count=2, padding=1),
    IMAGE,
  ),
  'conv-circular': (
    one(nn.Conv, 6, (3, 3), padding='CIRCULAR', kernel_dilation=2),
    IMAGE,
  ),
  'conv-causal': (one(nn.Conv, 3, 3, padding='CAUSAL'), X),
  'embed': (one(nn.Embed, 11, 6), IDS),
  'embed-tied': (Tied(), IDS),
}

METHOD = lora(rank=2, alpha=3.0)


def adapted(name, method=METHOD, **kwargs):
  """(model, params, frozen, trainable, input) of a case."""
  model, x = CASES[name]
  params = model.init(KEY, x)['params']
  return model, params, *method.init(jax.random.key(3), model, params, x, **kwargs), x


def disturbed(trainable):
  """Trainable parameters away from their initial value, so that the update is not zero."""
  keys = iter(jax.random.split(jax.random.key(4), len(jax.tree.leaves(trainable))))
  return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(next(keys), x.shape), trainable)


def low_products(function: Callable[..., Any], *args: Any) -> list[str]:
  """Products and convolutions of a function whose operands and result have a low dtype.

  Their accumulation is left to the compiler.
  """
  low = lambda variable: variable.aval.dtype in (jnp.bfloat16, jnp.float16)
  return [
    equation.primitive.name
    for equation in _products(jax.make_jaxpr(function)(*args).jaxpr)
    if any(map(low, equation.invars)) and low(equation.outvars[0])
  ]


def _products(jaxpr: Any) -> Iterator[Any]:
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('dot_general', 'conv_general_dilated'):
      yield equation
    for inner in jaxprs_in_params(equation.params):
      yield from _products(inner)
