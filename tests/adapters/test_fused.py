"""Pairs of query, key and value as one: the same update, and the same pairs come back."""

import numpy as np
import pytest

from lora_jax.adapters import fused
from lora_jax.adapters.parts import Pair

WIDTH = 6


def pairs(ranks, alphas, rslora=False):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  return {
    i: Pair(draw(WIDTH, rank), draw(rank, WIDTH), alphas[i], rslora) for i, rank in ranks.items()
  }


def update(pair):
  return pair.scale * pair.a @ pair.b


@pytest.mark.parametrize(
  'ranks, alphas, rslora',
  [
    ({0: 2, 2: 2}, {0: 8.0, 2: 8.0}, False),
    ({0: 2, 1: 1, 2: 4}, {0: 8.0, 1: 1.0, 2: 4.0}, False),  # Scales 4, 1 and 1.
    ({0: 4, 1: 4}, {0: 5.0, 1: 5.0}, True),
    ({1: 3}, {1: 7.0}, False),
  ],
)
def test_thirds_become_blocks_and_come_back(ranks, alphas, rslora):
  thirds = pairs(ranks, alphas, rslora)
  pair = fused.fuse(thirds)
  assert pair.rank == sum(ranks.values())
  assert pair.scale == pytest.approx(max(third.scale for third in thirds.values()))
  for i in range(3):
    expected = update(thirds[i]) if i in thirds else np.zeros((WIDTH, WIDTH))
    found = update(pair)[:, i * WIDTH : (i + 1) * WIDTH]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  for i, third in fused.unfuse(pair, alphas, ranks).items():
    assert (third.alpha, third.rslora) == (alphas[i], rslora)
    np.testing.assert_array_equal(third.a, thirds[i].a)
    np.testing.assert_array_equal(third.b, thirds[i].b)


def test_a_pair_on_all_three_is_separated():
  (pair,) = pairs({0: 2}, {0: 4.0}).values()
  pair = pair._replace(b=np.concatenate([pair.b, 2 * pair.b, 3 * pair.b], axis=-1))
  thirds = fused.separate(pair)
  np.testing.assert_array_equal(
    np.concatenate([update(third) for third in thirds.values()], axis=-1), update(pair)
  )


def test_scales_that_would_round_and_pairs_that_are_not_blocks():
  with pytest.raises(ValueError, match='power of two'):
    fused.fuse(pairs({0: 2, 1: 2}, {0: 9.0, 1: 3.0}))
  pair = fused.fuse(pairs({0: 2, 2: 2}, {0: 4.0, 2: 4.0}))
  with pytest.raises(ValueError, match='not the blocks'):
    fused.unfuse(pair, {0: 4.0, 1: 4.0}, {0: 2, 1: 2})
  with pytest.raises(ValueError, match='not the blocks'):
    fused.unfuse(pair, {0: 4.0}, {0: 2})
