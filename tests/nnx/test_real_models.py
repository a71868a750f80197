"""Models written as the field writes them: a ViT, and a decoder of Qwen3's kind with its cache.

They call their layers as those of Bonsai do: random numbers as a keyword of the call, caches that
are modules, given to the call and written by it, an embedding that is used bare, how a product is
split said in each call. Small ones of the same pattern; no line of theirs is changed for a method.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

from lora_jax import adapter_l, bind, compose, lora, params, update
from tests.nnx.toys import KEY, disturbed

WIDTH, HEADS, SIZE, VOCABULARY = 8, 2, 4, 11


class PatchEmbeddings(nnx.Module):
  def __init__(self, *, rngs):
    self.projection = nnx.Conv(3, WIDTH, (2, 2), (2, 2), rngs=rngs)
    self.cls_token = nnx.Param(jax.random.normal(rngs.params(), (1, 1, WIDTH)))
    self.position = nnx.Param(jax.random.normal(rngs.params(), (1, 5, WIDTH)))
    self.dropout = nnx.Dropout(0.5, deterministic=False)

  def __call__(self, pixels, *, rngs):
    x = self.projection(pixels)
    x = x.reshape(len(x), -1, WIDTH)
    x = jnp.concatenate([jnp.tile(self.cls_token[...], (len(x), 1, 1)), x], axis=1)
    return self.dropout(x + self.position[...], rngs=rngs)


class EncoderLayer(nnx.Module):
  def __init__(self, *, rngs):
    self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, dropout_rate=0.1, decode=False, rngs=rngs)
    self.linear1 = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
    self.linear2 = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)
    self.dropout = nnx.Dropout(0.1, deterministic=False)
    self.before, self.after = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2))

  def __call__(self, x, mask=None, *, rngs):
    x = x + self.attention(self.before(x), mask, rngs=rngs)
    y = self.linear2(jax.nn.gelu(self.linear1(self.after(x))))
    return x + self.dropout(y, rngs=rngs)


class ViT(nnx.Module):
  def __init__(self, *, rngs):
    self.embeddings = PatchEmbeddings(rngs=rngs)
    self.layers = nnx.List([EncoderLayer(rngs=rngs) for _ in range(2)])
    self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
    self.classifier = nnx.Linear(WIDTH, 3, rngs=rngs)

  def __call__(self, pixels, *, rngs):
    x = self.embeddings(pixels, rngs=rngs)
    for layer in self.layers:
      x = layer(x, rngs=rngs)
    return self.classifier(self.norm(x)[:, 0])


def test_a_vit_with_random_numbers_in_its_call():
  model, pixels = ViT(rngs=nnx.Rngs(0)), jax.random.normal(KEY, (2, 4, 4, 3))
  model.train()
  targets = (r'.*/(query|value|out)', 'embeddings/projection', '.*/linear1')
  low = lora(rank=2, alpha=4, targets=targets, train='classifier/.*', dropout=0.1)
  method = compose(low, adapter_l(bottleneck=2, targets='.*/linear2'))
  frozen, trainable = method.init(KEY, model, pixels)
  trainable = disturbed(trainable)
  noisy = lambda t, seed: bind(model, method)(
    frozen, t, pixels, rngs={'dropout': jax.random.key(seed)}
  )
  grads, one, other = jax.jit(
    lambda t: (
      jax.grad(lambda t: (noisy(t, 1) ** 2).sum())(t), noisy(t, 1), noisy(t, 2)
    )
  )(trainable)  # fmt: skip
  assert np.abs(one - other).max() > 1e-3
  assert all(np.abs(x).max() for x in jax.tree.leaves(grads))
  model.eval()
  run = jax.jit(bind(model, low))
  frozen, trainable = low.init(KEY, model, pixels)
  found = run(frozen, disturbed(trainable), pixels)
  update(model, low.merge(frozen, disturbed(trainable)))
  merged = nnx.jit(lambda model: model(pixels, rngs=None))(model)
  np.testing.assert_allclose(merged, found, rtol=1e-5, atol=1e-5)


class Split:
  """How parameters and activations are split, over a mesh whose axes are explicit, or nothing."""

  def __init__(self, mesh):
    self.mesh = mesh

  def __call__(self, *axes):
    return PartitionSpec(*axes) if self.mesh else None


class Cache(nnx.Module):
  def __init__(self, rows, split):
    shape, where = (rows, SIZE, HEADS, WIDTH // HEADS), split('data', None, 'model')
    self.keys = nnx.Cache(jnp.zeros(shape, out_sharding=where))
    self.values = nnx.Cache(jnp.zeros(shape, out_sharding=where))
    self.end = nnx.Variable(jnp.zeros((), jnp.int32))


class CachedAttention(nnx.Module):
  def __init__(self, split, *, rngs):
    self.split = split
    into = {'kernel_metadata': {'out_sharding': split(None, 'model')}, 'rngs': rngs}
    shape = (WIDTH, HEADS, WIDTH // HEADS)
    self.q_proj, self.k_proj, self.v_proj = (
      nnx.Einsum('BTD,DNH->BTNH', shape, **into) for _ in range(3)
    )
    back = {'kernel_metadata': {'out_sharding': split('model')}, 'rngs': rngs}
    self.o_proj = nnx.Einsum('BTNH,NHD->BTD', (*shape[1:], WIDTH), **back)

  @jax.named_scope('attention')
  def __call__(self, x, cache):
    out = self.split('data', None, 'model')
    q, k, v = (proj(x, out_sharding=out) for proj in (self.q_proj, self.k_proj, self.v_proj))
    start = (0, cache.end[...], 0, 0)
    cache.keys.set_value(jax.lax.dynamic_update_slice(cache.keys[...], k, start))
    cache.values.set_value(jax.lax.dynamic_update_slice(cache.values[...], v, start))
    scores = jnp.einsum('BTNH,BSNH->BNTS', q, cache.keys[...])
    seen = jnp.arange(SIZE)[None] <= cache.end[...] + jnp.arange(x.shape[1])[:, None]
    weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -1e9), axis=-1)
    cache.end.set_value(cache.end[...] + x.shape[1])
    y = jnp.einsum('BNTS,BSNH->BTNH', weights, cache.values[...])
    return self.o_proj(y, out_sharding=self.split('data'))


class Decoder(nnx.Module):
  def __init__(self, split, *, rngs):
    self.split = split
    self.embedder = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
    self.layers = nnx.List([CachedAttention(split, rngs=rngs) for _ in range(2)])
    self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
    self.lm_head = nnx.Einsum('BTD,DV->BTV', (WIDTH, VOCABULARY), rngs=rngs)

  def __call__(self, tokens, *, caches):
    x = self.embedder.embedding[...].at[(tokens,)].get(out_sharding=self.split('data'))
    for layer, cache in zip(self.layers, caches):
      x = x + layer(x, cache)
    return self.lm_head(self.norm(x), out_sharding=self.split('data'))


def decode(split):
  """Logits of two calls with one cache, and the gradient of the first, adapted and merged."""
  model, method = Decoder(split, rngs=nnx.Rngs(0)), lora(rank=2, alpha=4, targets=r'.*/[qvo]_proj')
  new = lambda: nnx.List([Cache(2, split) for _ in range(2)])
  tokens = jnp.array([[1, 2], [3, 4]])
  frozen, trainable = method.init(KEY, model, tokens, caches=new())
  trainable, apply = disturbed(trainable), bind(model, method)

  @nnx.jit
  def both(trainable, caches):
    first = apply(frozen, trainable, tokens, caches=caches)
    return jnp.concatenate([first, apply(frozen, trainable, tokens + 4, caches=caches)], axis=1)

  caches = new()
  found = both(trainable, caches)
  assert int(caches[1].end[...]) == SIZE  # The caller's modules are written, as by the model.
  whole = jnp.concatenate([tokens, tokens + 4], axis=1)
  loss = lambda trainable, caches: (apply(frozen, trainable, whole, caches=caches) ** 2).sum()
  grads = nnx.jit(nnx.grad(loss))(trainable, new())
  update(model, method.merge(frozen, trainable))
  merged = nnx.jit(lambda model, caches: model(whole, caches=caches))(model, new())
  return jax.tree.map(np.asarray, (found, merged, grads))


@pytest.fixture(scope='module')
def alone():
  return decode(Split(None))


def test_a_decoder_whose_caches_are_arguments(alone):
  found, merged, grads = alone
  np.testing.assert_allclose(found, merged, rtol=1e-4, atol=1e-4)
  assert all(np.abs(x).max() for x in jax.tree.leaves(grads))


def test_the_decoder_on_an_explicit_mesh(alone):
  kinds = (AxisType.Explicit, AxisType.Explicit)
  mesh = jax.make_mesh((2, 2), ('data', 'model'), kinds, devices=jax.devices()[:4])
  with jax.set_mesh(mesh):
    found = decode(Split(mesh))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), found, alone)


def test_an_embedding_that_is_used_bare_is_named():
  model = Decoder(Split(None), rngs=nnx.Rngs(0))
  method = lora(rank=2, alpha=4, targets='embedder')
  caches = nnx.List([Cache(1, Split(None)) for _ in range(2)])
  with pytest.raises(ValueError, match=r"(?s)'embedder' matches no module.*is used bare"):
    method.init(KEY, model, jnp.ones((1, 2), int), caches=caches)
  assert 'embedding' in params(model)['embedder']
