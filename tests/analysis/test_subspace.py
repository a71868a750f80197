"""Similarity of subspaces that are known by construction."""

import math

import numpy as np
import pytest

from lora_jax.analysis import subspace
from tests.analysis.planted import D, K, orthogonal, spanned

Q = orthogonal(D)
FIRST = [4.0, 3.0, 2.0, 1.0]
PLANTED = {
  # The second matrix's directions among the columns of Q, and phi[i - 1][j - 1] where all know it.
  'identical': ([0, 1, 2, 3], {(1, 1): 1, (2, 2): 1, (4, 4): 1, (1, 4): 1, (4, 1): 1}),
  'orthogonal': ([4, 5, 6, 7], {(1, 1): 0, (4, 4): 0, (1, 4): 0}),
  'shuffled': ([3, 2, 1, 0], {(1, 1): 0, (1, 3): 0, (1, 4): 1, (2, 2): 0, (3, 3): 2 / 3}),
  'one in common': ([0, 5, 6, 7], {(1, 1): 1, (2, 2): 1 / 2, (4, 4): 1 / 4, (1, 4): 1}),
  'inside a larger one': ([0, 1, 2, 3, 8, 9], {(4, 6): 1, (2, 6): 1, (4, 4): 1}),
}


@pytest.mark.parametrize('case', PLANTED)
def test_planted_subspaces(case):
  columns, expected = PLANTED[case]
  second = spanned(Q[:, columns], range(len(columns), 0, -1), seed=2)
  one, two = subspace.directions(spanned(Q[:, :4], FIRST)), subspace.directions(second)
  phi = subspace.similarity(one, two)
  assert phi.shape == (4, len(columns))
  for (i, j), value in expected.items():
    assert phi[i - 1, j - 1] == pytest.approx(value, abs=1e-12)
  np.testing.assert_allclose(subspace.similarity(two, one), phi.T, atol=1e-12)


def test_an_angle_between_two_lines():
  one = np.array([[1.0], [0.0], [0.0]])
  two = np.array([[math.cos(0.3)], [math.sin(0.3)], [0.0]])
  assert subspace.similarity(one, two)[0, 0] == pytest.approx(math.cos(0.3) ** 2)


def test_the_map_is_the_definition_cell_by_cell():
  one, two = orthogonal(D, 3)[:, :5], orthogonal(D, 4)[:, :9]
  phi = subspace.similarity(one, two)
  for i in range(1, 6):
    for j in range(1, 10):
      inner = np.linalg.norm(one[:, :i].T @ two[:, :j]) ** 2 / min(i, j)
      assert phi[i - 1, j - 1] == pytest.approx(inner, abs=1e-12)


def test_random_subspaces_overlap_by_chance():
  random = np.random.default_rng(0)
  mean = np.mean(
    [
      subspace.similarity(
        subspace.random_directions(random, D, 4), subspace.random_directions(random, D, 10)
      )
      for _ in range(400)
    ],
    axis=0,
  )
  expected = [[subspace.chance(i, j, D) for j in range(1, 11)] for i in range(1, 5)]
  np.testing.assert_allclose(mean, expected, atol=0.015)


def test_padded_factors_have_the_directions_of_their_rank_only():
  padded = np.concatenate([spanned(Q[:, :3], [3, 2, 1]), np.zeros((D, 5))], axis=1)
  assert subspace.directions(padded).shape == (D, 3)
  with pytest.raises(ValueError, match='zeros'):
    subspace.directions(np.zeros((D, 2)))
  with pytest.raises(ValueError, match='40 and 24 dimensions'):
    subspace.similarity(Q, orthogonal(K))
