"""DoRA on a layer: its equation, its gradient, its dropout, its memory."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import bind, lora
from lora_jax.methods import dora
from tests.methods.toys import KEY, X, disturbed, one

METHOD = lora(rank=2, alpha=3.0, dora=True)


def parts(method=METHOD):
  model = one(nn.Dense, 4)
  frozen, trainable = method.init(KEY, model, model.init(KEY, X)['params'], X)
  return bind(model.apply, method), frozen, disturbed(trainable)


def written_out(frozen, trainable, x, dropped):
  """PEFT's DoraLinearLayer, with the norm as a constant."""
  base, own = frozen['query'], trainable['query']
  update = 1.5 * own['lora_a'] @ own['lora_b']
  norm = jax.lax.stop_gradient(jnp.linalg.norm(base['kernel'] + update, axis=0))
  g = (own['lora_m'] / norm)[None, None]
  y = x @ base['kernel'] + base['bias'][None, None]
  return y + (g - 1) * (dropped @ base['kernel']) + g * (dropped @ update)


def test_output_and_gradient_are_those_of_a_norm_held_fixed():
  apply, frozen, trainable = parts()
  value = lambda f: lambda trainable: (f(trainable) ** 2).sum()
  ours = jax.value_and_grad(value(lambda t: apply(frozen, t, X)))(trainable)
  theirs = jax.value_and_grad(value(lambda t: written_out(frozen, t, X, X)))(trainable)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), ours, theirs)


def test_dropout_is_seen_by_the_weight_too():
  apply, frozen, trainable = parts(lora(rank=2, alpha=3.0, dora=True, dropout=0.5))
  found = apply(frozen, trainable, jnp.ones_like(X), rngs={'dropout': KEY})
  kernel = frozen['query']['kernel']
  # One input of six at a time is not enough to tell: the mask is solved for by trying all 64.
  masks = 2.0 * jnp.stack([jnp.array([(i >> j) & 1 for j in range(6)]) for i in range(64)])[None]
  every = written_out(frozen, trainable, jnp.ones((1, 64, 6)), masks.astype(jnp.float32))[0]
  distance = jnp.abs(found[:, :, None] - every[None, None]).max(-1).min(-1)
  assert kernel.shape == (6, 4) and distance.max() < 1e-5


def test_no_array_of_the_weights_size_is_made():
  weight = jax.ShapeDtypeStruct((512, 384), jnp.float32)
  a, b = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((512, 2), (2, 384)))
  m = jax.ShapeDtypeStruct((384,), jnp.float32)
  compiled = jax.jit(dora.gain).lower(weight, a, b, jnp.float32(2), m).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 512 * 384
