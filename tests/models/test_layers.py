"""Dropout, norms and options of the layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax.models import layers

pytestmark = pytest.mark.usefixtures('strict_dtypes')


def normal(seed, shape, dtype=jnp.float32):
  return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def test_dropout_needs_no_key_where_it_is_off():
  x = jnp.ones((2, 3))
  assert (nn.apply(lambda m: m(x, deterministic=True), layers.Dropout(0.5))({}) == x).all()
  assert (nn.apply(lambda m: m(x, deterministic=False), layers.Dropout(0.0))({}) == x).all()


def test_layer_norm_keeps_its_digits_beside_outliers():
  # Mean 1000, spread 1: E[x^2] - E[x]^2 in float32 has no correct digit left.
  x = 1000 + normal(0, (4, 256))
  y = layers.LayerNorm(1e-5, jnp.float32).apply(
    {'params': {'scale': jnp.ones(256), 'bias': jnp.zeros(256)}}, x
  )
  exact = np.asarray(x, np.float64)
  exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(y, exact, atol=1e-3)


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(remat='some'), "remat='some': choose one of none, full, dots"),
    (dict(attention='flash'), "attention='flash': choose one of auto, xla, cudnn, pallas"),
    (dict(hidden_dropout=1.0), r'hidden_dropout=1.0: a dropout rate lies in \[0, 1\)'),
    (dict(dtype='int8'), "dtype='int8': choose one of float32, bfloat16, float16"),
    (dict(dtype='float31'), "dtype='float31': choose one of"),
  ],
)
def test_options_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    layers.Options(**options)
