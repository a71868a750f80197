"""Table 7 of updates and weights that are known by construction."""

import math

import numpy as np
import pytest

from lora_jax.analysis import amplification, factors
from tests.analysis.planted import D, K, orthogonal, update


def test_table7_of_an_update_that_amplifies_planted_directions():
  """W has 0.5 on the update's two directions, the update has 6 and 8: 10 / (0.5 * sqrt(2))."""
  left, right = orthogonal(D, 6), orthogonal(K, 7)
  values = np.array([9.0, 7.0, 0.5, 0.5, *np.zeros(K - 4)])
  weight = left[:, :K] * values @ right.T
  a, b = left[:, 2:4] * np.array([4, 3]), right[:, 2:4].T
  svd = factors.thin_svd(update(a, b, scale=2.0))
  row = amplification.measure(weight, svd, np.sort(values)[::-1], np.random.default_rng(0))
  assert row.rank == 2
  assert row.update == pytest.approx(10)
  assert row.weight == pytest.approx(np.linalg.norm(values))
  assert row.on_update == pytest.approx(0.5 * math.sqrt(2))
  assert row.on_weight == pytest.approx(math.hypot(9, 7))
  assert row.amplification == pytest.approx(10 / (0.5 * math.sqrt(2)))


def test_a_random_projection_is_as_small_as_the_papers():
  """r ||W|| / sqrt(d k): table 7 has 0.02 for ||W|| = 61.95, r = 4, d = k = 12288."""
  random = np.random.default_rng(0)
  weight = random.standard_normal((D, K))
  svd = factors.thin_svd(update(random.standard_normal((D, 4)), random.standard_normal((4, K))))
  values = np.linalg.svd(weight, compute_uv=False)
  rows = [amplification.measure(weight, svd, values, random).on_random ** 2 for _ in range(400)]
  expected = 4 * np.linalg.norm(weight) / math.sqrt(D * K)
  assert math.sqrt(np.mean(rows)) == pytest.approx(expected, rel=0.05)
  assert round(4 * 61.95 / 12288, 2) == 0.02
