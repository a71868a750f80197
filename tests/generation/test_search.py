"""The parts of one step of decoding, over vocabularies of several blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax.generation import search

SIZES = (search.BLOCK * 3, 1000, 40, 5)


def logits(size, ties):
  rng = np.random.default_rng(size)
  values = rng.normal(size=(4, 3, size)) * 3
  values[0, 0, : size // 2] = -np.inf
  values = np.round(values) if ties else values
  values[1, 1] = 1.0 if ties else values[1, 1]
  return values.astype(np.float32)


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('k', [1, 2])
def test_largest_is_a_stable_sort(size, ties, k):
  x = logits(size, ties)
  values, indices, norm = jax.jit(search.largest, static_argnums=1)(x, k)
  order = np.argsort(-x, axis=-1, kind='stable')[..., :k]
  np.testing.assert_array_equal(indices, order)
  np.testing.assert_array_equal(values, np.take_along_axis(x, order, axis=-1))
  np.testing.assert_allclose(norm, jax.nn.logsumexp(x, axis=-1), rtol=1e-6)


def test_the_sizes_are_on_both_sides_of_the_blocks():
  assert {-(-size // search.BLOCK) > 2 for size in SIZES} == {True, False}


def test_masked_are_the_tokens_that_would_repeat():
  history = jnp.array([[[7, 8, 9, 7, 8, 0, 0]]], jnp.int32)

  def masked(size, steps):
    zeros = np.zeros((1, 1, 12), np.float32)
    found = search.mask_repeats(jnp.asarray(zeros), history, jnp.array([steps]), size)
    return np.flatnonzero(np.isneginf(found[0, 0])).tolist()

  assert masked(3, 5) == [9]  # 7 8 was followed by 9.
  assert masked(2, 5) == [9]
  assert masked(1, 5) == [7, 8, 9]
  assert masked(4, 5) == []  # 9 7 8 occurs only at the end.
  assert masked(2, 4) == [8]
  assert masked(3, 4) == masked(3, 2) == masked(3, 0) == []
  assert masked(0, 5) == []
