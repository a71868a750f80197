"""Losses at label positions."""

import jax.numpy as jnp
import numpy as np

from lora_jax.train import losses


def test_label_smoothing_is_the_authors():
  """0.9 nll + 0.1 mean over the vocabulary of -log p (examples/NLG)."""
  logits = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  labels = np.array([2, 0])
  expected = -0.9 * log_p[[0, 1], labels] - 0.1 * log_p.mean(-1)
  actual = losses.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), 0.1)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_regression_is_the_squared_error():
  loss = losses.per_position(
    'regression', jnp.array([[[2.0]], [[-1.0]]]), jnp.array([[0.5], [1.0]])
  )
  np.testing.assert_allclose(loss, [[2.25], [4.0]])
