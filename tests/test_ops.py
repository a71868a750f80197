"""Products that accumulate in float32, dropout, activations."""

import jax
import jax.numpy as jnp
import numpy as np

from lora_jax.ops import drop


def test_dropout_keeps_the_mean_and_the_rate():
  x = jnp.ones((64, 1001))
  y = drop(jax.random.key(0), 0.3, x)
  values = np.unique(y)
  np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-4)
  assert abs(float((y == 0).mean()) - 0.3) < 0.01
  assert abs(float(y.mean()) - 1) < 0.01
  # Neighbours share a random word, but not their fate.
  pairs = np.asarray(y[:, :1000] == 0).reshape(-1, 2)
  assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.03


def test_dropout_at_either_end_of_its_rates():
  x = jnp.ones((8, 3), jnp.bfloat16)
  assert drop(jax.random.key(0), 0.0, x) is x
  assert drop(jax.random.key(0), 1e-6, x) is x  # Rounds to no dropout.
  most = drop(jax.random.key(0), 1 - 1e-9, x)
  assert (most.dtype, most.shape) == (x.dtype, x.shape) and jnp.isfinite(most).all()
