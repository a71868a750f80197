"""Small NNX models: one layer of each kind beside Linen's, and blocks in every layout."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lora_jax import tree

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 5, 6))
IMAGE = jax.random.normal(jax.random.key(2), (2, 7, 8, 4))
IDS = jnp.arange(8).reshape(2, 4)
VOCABULARY, WIDTH = 50, 8


class One(nnx.Module):
  """A single layer, named `query`."""

  def __init__(self, layer):
    self.query = layer

  def __call__(self, x):
    return self.query(x)


class Tied(nnx.Module):
  """One embedding looked up and attended to."""

  def __init__(self, rngs, **options):
    self.query = nnx.Embed(11, 6, rngs=rngs, **options)

  def __call__(self, ids):
    return self.query.attend(jnp.tanh(self.query(ids)))


class LinenOne(nn.Module):
  layer: Callable

  @nn.compact
  def __call__(self, x):
    return self.layer(name='query')(x)


class LinenTied(nn.Module):
  options: dict

  @nn.compact
  def __call__(self, ids):
    embed = nn.Embed(11, 6, name='query', **self.options)
    return embed.attend(jnp.tanh(embed(ids)))


class LinenAttention(nn.Module):
  options: dict

  @nn.compact
  def __call__(self, x):
    return nn.MultiHeadDotProductAttention(2, name='query', **self.options)(x)


class Attention(nnx.Module):
  def __init__(self, rngs, **options):
    self.query = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs, **options)

  def __call__(self, x):
    return self.query(x)


class Pair(NamedTuple):
  """A layer of NNX and the same of Linen, given their options; their input; what is adapted."""

  nnx: Callable
  linen: Callable
  x: jax.Array
  targets: str = 'query'


def _pair(kind, args, other, others, x, linen_options=(), **options):
  both = lambda more: {**options, **dict(linen_options), **more}
  return Pair(
    lambda rngs, **more: One(kind(*args, rngs=rngs, **options, **more)),
    lambda **more: LinenOne(lambda name: other(*others, name=name, **both(more))),
    x,
  )


_IN_OUT = ((2, 6, 4), (2, 4))
PAIRS = {
  'linear': _pair(nnx.Linear, (6, 3), nn.Dense, (3,), X),
  'linear-bare': _pair(nnx.Linear, (6, 3), nn.Dense, (3,), X, use_bias=False),
  'general': _pair(nnx.LinearGeneral, (6, (2, 3)), nn.DenseGeneral, ((2, 3),), X),
  'general-axes': _pair(
    nnx.LinearGeneral, ((5, 6), 3), nn.DenseGeneral, (3,), X, axis=(1, -1)
  ),
  'general-batch': Pair(
    lambda rngs, **more: One(nnx.LinearGeneral(6, 3, batch_axis={0: 4}, rngs=rngs, **more)),
    lambda **more: LinenOne(lambda name: nn.DenseGeneral(3, batch_dims=(0,), name=name, **more)),
    X,
  ),
  'einsum': _pair(
    nnx.Einsum, ('btd,ndh->btnh', *_IN_OUT), nn.Einsum, (_IN_OUT[0], 'btd,ndh->btnh'), X
  ),
  'conv': _pair(nnx.Conv, (4, 6, (3, 3)), nn.Conv, (6, (3, 3)), IMAGE, strides=(2, 1)),
  'conv-groups': _pair(
    nnx.Conv, (4, 6, (3, 3)), nn.Conv, (6, (3, 3)), IMAGE, feature_group_count=2, padding='VALID'
  ),
  'embed': _pair(nnx.Embed, (11, 6), nn.Embed, (11, 6), IDS),
  'embed-tied': Pair(Tied, lambda **more: LinenTied(more), IDS),
  'attention': Pair(
    Attention, lambda **more: LinenAttention(more), X, r'query/(query|value|out)'
  ),
}  # fmt: skip


class Branch(nnx.Module):
  """A place for an adapter; it has no parameters."""

  def __call__(self, x, added=None):
    del added
    return x


class Block(nnx.Module):
  """A block with the names that methods know by default."""

  def __init__(self, rngs):
    self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
    self.query, self.value = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(2))
    self.up, self.down = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(2))
    self.attention_branch, self.mlp_branch = Branch(), Branch()

  def __call__(self, x, virtual=None):
    del virtual
    h = self.norm(x)
    x = x + self.attention_branch(jnp.tanh(self.query(h)) * self.value(h).mean(1, keepdims=True))
    return x + self.mlp_branch(self.down(nnx.gelu(self.up(x))), added=lambda y: x + y)


class Embeddings(nnx.Module):
  def __init__(self, rngs):
    self.word = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)

  def __call__(self, ids):
    return self.word(ids)


class Stack(nnx.Module):
  """Blocks in a layout: `loop`, `scan`, `remat`, `scan+remat`."""

  def __init__(self, layout='loop', depth=2, rngs=None):
    rngs = rngs or nnx.Rngs(0)
    self.embeddings = Embeddings(rngs)
    self.layout = layout
    make = Block
    if 'scan' in layout:
      self.layers = nnx.split_rngs(splits=depth)(nnx.vmap(Block))(rngs)
    else:
      self.layers = nnx.List([make(rngs) for _ in range(depth)])
    self.classifier = nnx.Linear(WIDTH, 3, rngs=rngs)

  def __call__(self, ids):
    virtual = ids - VOCABULARY
    run = lambda x, block: block(x, virtual=virtual)
    if 'remat' in self.layout:
      run = nnx.remat(run)
    x = self.embeddings(ids)
    if 'scan' in self.layout:
      x = nnx.scan(run, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)
    else:
      for block in self.layers:
        x = run(x, block)
    return self.classifier(x)


def disturbed(trainable):
  """All leaves moved, so that none is zero. In NumPy: nothing to compile."""
  rng = np.random.default_rng(4)
  move = lambda x: x + jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype)
  return tree.unflatten({path: move(x) for path, x in tree.flatten(trainable).items()})
