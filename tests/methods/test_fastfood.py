"""The Fastfood transform: a linear map of unit columns, each set by the seed, and its transpose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from lora_jax.methods import fastfood

SEED = jnp.uint32(7)


@pytest.mark.parametrize('n', [1, 2, 64, 2048])
def test_the_transform_is_the_matrix(n):
  x = np.random.default_rng(0).standard_normal(n, np.float32)
  np.testing.assert_allclose(
    fastfood.hadamard(jnp.asarray(x)), scipy.linalg.hadamard(n) @ x, atol=1e-5 * n
  )


@pytest.mark.parametrize('n', [1, 2, 8, 4096])
def test_the_permutation_is_one(n):
  index = jnp.arange(n, dtype=jnp.uint32)
  moved = fastfood._permute(index, SEED)
  np.testing.assert_array_equal(np.sort(moved), index)
  np.testing.assert_array_equal(fastfood._unpermute(moved, SEED), index)
  if n == 4096:  # Neighbors do not stay neighbors, and few indices stay where they are.
    assert np.mean(np.abs(np.diff(np.asarray(moved, int))) < 10) < 0.02
    assert np.sum(moved == index) < 10


@pytest.mark.parametrize(('size', 'd'), [(3000, 50), (5, 50), (1, 3)])
def test_the_backward_pass_is_the_transpose(size, d):
  columns = jax.vmap(lambda x: fastfood.project(x, SEED, size))(jnp.eye(d))
  cotangents = np.random.default_rng(1).standard_normal(size, np.float32)
  _, back = jax.vjp(lambda x: fastfood.project(x, SEED, size), jnp.zeros(d))
  np.testing.assert_allclose(back(jnp.asarray(cotangents))[0], columns @ cotangents, atol=1e-4)


def test_columns_have_unit_length_and_are_nearly_orthogonal_and_normal():
  columns = np.asarray(jax.vmap(lambda x: fastfood.project(x, SEED, 40_000))(jnp.eye(40)))
  products = columns @ columns.T
  np.testing.assert_allclose(np.diag(products), 1, atol=0.05)
  assert np.abs(products - np.diag(np.diag(products))).max() < 0.05
  z = columns[0] * np.sqrt(40_000)
  assert abs(np.mean(z**4) / np.mean(z**2) ** 2 - 3) < 0.1


def test_more_coordinates_and_other_seeds():
  x = jnp.asarray(np.random.default_rng(2).standard_normal(20, np.float32))
  for size in (1000, 8):  # The longer vector is longer than 8.
    few = fastfood.project(x, SEED, size)
    np.testing.assert_allclose(fastfood.project(jnp.pad(x, (0, 77)), SEED, size), few, atol=1e-5)
    assert np.abs(fastfood.project(x, SEED + 1, size) - few).max() > 0.01


def test_a_small_leaf_is_moved_by_as_many_numbers_as_it_has():
  """Padded to a power of two."""
  columns = np.asarray(jax.vmap(lambda x: fastfood.project(x, SEED, 6))(jnp.eye(20)))
  assert np.linalg.matrix_rank(columns[:8]) == 6 and np.all(np.any(columns[:8], axis=1))
  assert not np.any(columns[8:])


def test_the_numbers_of_a_seed_stay():
  """A stored adapter is d numbers and a seed: what the seed stands for must not change."""
  found = fastfood.project(jnp.asarray([1.0, -2.0, 3.0]), SEED, 6)
  np.testing.assert_allclose(found, EXPECTED, atol=1e-6)


EXPECTED = [-0.7249328, -0.3409639, 0.691755, 0.3741418, -1.1035026, -1.2223622]
