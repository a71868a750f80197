"""Bin packing: which examples share a row, best fit decreasing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NEVER = np.iinfo(np.int32).max  # The number of rows that a batch needs which fits no row.


def round_up(value: float, multiple: int) -> int:
  """The least multiple that is at least the integer part of `value`."""
  return -(-int(value) // multiple) * multiple


def pack(
  lengths: np.ndarray, num_predictions: np.ndarray, length: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
  """Best-fit decreasing, for many batches at once.

  Args:
    lengths, num_predictions: [batches, examples], 0 where a batch has fewer examples.
    length: tokens that a row holds.
    limit: predictions that a row holds.

  Returns:
    int64 [batches, examples] the row of each example, -1 where there is no example; and int64
    [batches] the number of rows used, a huge number if an example fits no row.
  """
  n, size = lengths.shape
  weight = length / limit
  share = np.maximum(lengths, weight * num_predictions)
  order = np.argsort(-share, axis=1, kind='stable')
  lengths, num_predictions = (np.take_along_axis(x, order, 1) for x in (lengths, num_predictions))
  space = np.full((n, size), length, np.int32)
  room = np.full((n, size), limit, np.int32)
  used, rows = np.zeros(n, np.int64), np.full((n, size), -1)
  batch = np.arange(n)
  for j in range(size):
    tokens, outputs = lengths[:, j], num_predictions[:, j]
    there = tokens > 0
    if not there.any():
      break
    opened = min(int(used.max()) + 1, size)  # One empty row, which fits worst, is enough.
    left, left_t = space[:, :opened] - tokens[:, None], room[:, :opened] - outputs[:, None]
    slack = left + weight * left_t
    slack[(left < 0) | (left_t < 0)] = np.inf
    row = slack.argmin(1)
    space[batch, row] -= np.where(there, tokens, 0).astype(np.int32)
    room[batch, row] -= np.where(there, outputs, 0).astype(np.int32)
    rows[batch, order[:, j]] = np.where(there, row, -1)
    used = np.maximum(used, np.where(there, row + 1, 0))
  return rows, np.where((space.min(1) < 0) | (room.min(1) < 0), NEVER, used)


def pack_rows(lengths: np.ndarray, levels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """Packs any number of examples into rows of several lengths, best fit decreasing.

  Args:
    lengths: [n] tokens, at most levels[-1].
    levels: ascending row lengths; a row is opened at the shortest length that holds the example,
      and later examples fill the gaps of every open row.

  Returns:
    [n] the row of each example, and [rows] the length of each row.
  """
  open_rows: list[list[int]] = [[] for _ in range(levels[-1] + 1)]  # by space left
  mask = 0  # bit i: some row has i tokens left
  rows, sizes = np.empty(len(lengths), np.int64), []
  opened = np.asarray(levels)[np.searchsorted(levels, lengths)].tolist()
  for i in np.argsort(-lengths, kind='stable').tolist():
    length = int(lengths[i])
    fits = mask >> length
    if fits:
      left = length + (fits & -fits).bit_length() - 1
      row = open_rows[left].pop()
      if not open_rows[left]:
        mask &= ~(1 << left)
    else:
      left, row = opened[i], len(sizes)
      sizes.append(left)
    rows[i] = row
    open_rows[left - length].append(row)
    mask |= 1 << (left - length)
  return rows, np.array(sizes, np.int64)


def bound(lengths: np.ndarray, length: int, batch_size: int) -> int:
  """The largest number of a batch's examples that any row of `length` can hold."""
  shortest = np.sort(lengths)[:batch_size]
  return max(1, int(np.searchsorted(np.cumsum(shortest), length, side='right')))
