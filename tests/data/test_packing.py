"""Laws of packing."""

import numpy as np
import pytest

from lora_jax.data import packing


@pytest.mark.parametrize('seed', range(20))
def test_pack_keeps_its_limits_and_is_near_the_bound(seed):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, 40, (5, 24))
  num_predictions = np.minimum(rng.integers(0, 20, (5, 24)), lengths - 1)
  lengths[2, 7:] = num_predictions[2, 7:] = 0
  rows, used = packing.pack(lengths, num_predictions, 64, 25)
  assert (rows[2, 7:] == -1).all() and (rows[2, :7] >= 0).all()
  for b in range(5):
    there = rows[b] >= 0
    for what, limit in ((lengths, 64), (num_predictions, 25)):
      assert np.bincount(rows[b, there], what[b, there]).max() <= limit
    assert used[b] == rows[b].max() + 1
    bound = max(lengths[b].sum() / 64, num_predictions[b].sum() / 25)
    assert used[b] <= 1.35 * bound + 1
  _, used = packing.pack(np.array([[65, 1]]), np.array([[1, 1]]), 64, 25)
  assert used[0] > 10**6  # An example that fits no row: never.


def test_an_example_takes_the_fullest_row_that_has_its_room():
  # 6 and 4 fill a row to the last token, and the last prediction; 5 stands alone.
  rows, used = packing.pack(np.array([[6, 5, 4]]), np.array([[1, 2, 2]]), 10, 3)
  assert rows.tolist() == [[1, 0, 1]] and used.tolist() == [2]
  rows, sizes = packing.pack_rows(np.array([6, 5, 4]), [10])
  assert rows.tolist() == [0, 1, 0] and sizes.tolist() == [10, 10]
  # 3 fits in all, and best beside 7.
  rows, _ = packing.pack_rows(np.array([5, 7, 6, 3]), [10])
  assert rows.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize('levels', [[64], [16, 40, 64]])
def test_rows_hold_every_example_once_and_waste_little(levels):
  lengths = np.random.default_rng(0).integers(1, 33, 500)
  rows, sizes = packing.pack_rows(lengths, levels)
  assert (np.bincount(rows, lengths, len(sizes)) <= sizes).all() and set(sizes) <= set(levels)
  assert lengths.sum() > 0.95 * sizes.sum()


def test_multiples_are_rounded_up():
  assert [packing.round_up(x, 8) for x in (0, 1, 8, 8.9, 9)] == [0, 8, 8, 8, 16]
