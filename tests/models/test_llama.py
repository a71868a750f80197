"""The Llama family's own parts: grouped heads, rotary positions and their scaling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import ops
from lora_jax.models import llama
from lora_jax.models.attention import attention


@pytest.mark.parametrize('causal', [False, True])
def test_grouped_heads_are_repeated_heads(causal):
  random = np.random.default_rng(0)
  query = random.standard_normal((2, 5, 6, 4)).astype('f')
  key, value = (random.standard_normal((2, 5, 2, 4)).astype('f') for _ in range(2))
  segments = np.array([[1, 1, 2, 2, 2], [1, 1, 1, 1, 0]])
  repeated = (np.repeat(x, 3, axis=2) for x in (key, value))
  expected = attention(query, *repeated, segments, causal=causal)
  found = attention(query, key, value, segments, causal=causal)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  columns = np.array([[4, 0], [1, 3]])
  chosen = np.take_along_axis(query, columns[:, :, None, None], axis=1)
  few = attention(chosen, key, value, segments, columns=columns, causal=causal)
  take = np.take_along_axis(np.asarray(expected), columns[:, :, None, None], axis=1)
  np.testing.assert_allclose(few, take, atol=1e-6)


def test_products_of_rotated_vectors_depend_on_their_distance_alone():
  config = llama.LlamaConfig(head_width=8)
  random = np.random.default_rng(0)
  q, k = (jnp.asarray(random.standard_normal((1, 1, 1, 8)), jnp.float32) for _ in range(2))

  def product(at, other):
    turned = []
    for x, position in ((q, at), (k, other)):
      angles = jnp.full((1, 1, 4), position, jnp.float32) * llama.frequencies(config)[None, None]
      turned.append(ops.rotate(x, jnp.cos(angles), jnp.sin(angles)))
    return float(jnp.sum(turned[0] * turned[1]))

  assert product(3, 1) == pytest.approx(product(10, 8), abs=1e-5)
  assert abs(product(3, 1) - product(3, 2)) > 1e-2
  assert product(5, 5) == pytest.approx(float(jnp.sum(q * k)), abs=1e-5)


def test_only_long_wavelengths_are_scaled():
  plain = llama.frequencies(llama.LlamaConfig(rope_theta=500000.0))
  scaled = llama.frequencies(llama.LlamaConfig(rope_theta=500000.0, rope_factor=8.0))
  wavelengths = 2 * np.pi / plain
  short, long = wavelengths < 8192 / 4, wavelengths > 8192
  np.testing.assert_array_equal(scaled[short], plain[short])
  np.testing.assert_allclose(scaled[long], plain[long] / 8, rtol=1e-6)
  between = ~(short | long)
  assert between.sum() > 2
  assert ((scaled < plain) & (scaled > plain / 8))[between].all()


def test_bfloat16_passes_between_layers_and_logits_are_float32():
  config = llama.LlamaConfig(
    vocab_size=11, max_positions=8, hidden_size=8, num_layers=1, num_heads=2, num_kv_heads=1,
    head_width=4, intermediate_size=8,
  )  # fmt: skip
  model = llama.Llama(config, dtype=jnp.bfloat16)
  ids = jnp.zeros((1, 4), jnp.int32)
  shapes = jax.eval_shape(lambda key: model.init_with_output(key, ids), jax.random.key(0))
  logits, params = shapes
  assert logits.dtype == jnp.float32 and logits.shape == (1, 4, 11)
  assert params['params']['final_norm']['scale'].dtype == jnp.float32
