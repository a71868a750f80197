"""Bin packing for batches, and the choice of the few shapes that a run compiles.

A batch holds a fixed number of examples, so its number of tokens varies; a compiled program has a
fixed shape. `plan` simulates epochs and chooses a small menu of shapes which wastes little; each
batch then takes the cheapest shape of the menu that it can be packed into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_SAMPLE, _GROUPS = 32768, 1024  # examples, and groups of batches, that are packed when planning
_PADDING = 0.085  # aimed at; the bound that is promised is 0.10
# Attention makes a token in a row of `length` dearer by (1 + length / horizon). On CPU, 36 rows of
# 64 took 645 ms and 9 of 256 1000 ms (width 384): horizon 285. Where so short rows leave too much
# padding, longer horizons are tried.
_HORIZONS = (300.0, 600.0, 1200.0, np.inf)
_NEVER = np.iinfo(np.int32).max


class Shape(NamedTuple):
  """Rows, columns and read-outs per row: `input_ids` is [rows, length]."""

  rows: int
  length: int
  num_predictions: int


class Limits(NamedTuple):
  """What a menu has to obey."""

  layout: str  # 'pack' | 'pad' | 'pad_max'
  batch_size: int
  max_length: int  # of an example, used by 'pad_max'
  rows_multiple: int
  row_length: int  # 0 = chosen
  group: int  # batches that share a shape
  max_shapes: int  # in the menu
  prediction_cost: float  # of a read-out, in tokens; 0 where every example has one


def round_up(value: int, multiple: int) -> int:
  return -(-int(value) // multiple) * multiple


def pack(
  lengths: np.ndarray, num_predictions: np.ndarray, length: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
  """Best-fit decreasing, for many batches at once.

  Args:
    lengths, num_predictions: [batches, examples], 0 where a batch has fewer examples.
    length: tokens that a row holds.
    limit: read-outs that a row holds.

  Returns:
    int64 [batches, examples] the row of each example, -1 where there is none; and int64 [batches]
    the rows taken, a huge number where an example fits no row.
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
  return rows, np.where((space.min(1) < 0) | (room.min(1) < 0), _NEVER, used)


def pack_rows(lengths: np.ndarray, levels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """Packs any number of examples into rows of several lengths, best fit decreasing.

  Args:
    lengths: [n] tokens, at most levels[-1].
    levels: ascending row lengths; a row is opened at the shortest that holds the example, and
      later examples fill the gaps of every open row.

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


def plan_rows(lengths: np.ndarray, row_length: int) -> list[int]:
  """At most three row lengths for `pack_rows` over a whole dataset, ascending."""
  longest = int(lengths.max())
  if row_length:
    return [row_length]
  sample = lengths[:: max(1, len(lengths) // 4096)]
  choices = [level for level in _levels(longest) if level >= np.quantile(lengths, 0.1)]

  def cost(levels: list[int]) -> float:
    sizes = pack_rows(np.minimum(sample, levels[-1]), levels)[1]
    return float(np.sum(sizes * (1 + sizes / _HORIZONS[0])))

  best = min(([level] for level in choices if level >= longest), key=cost)
  for _ in range(2):
    more = [sorted({*best, level}) for level in choices if level < best[-1] and level not in best]
    option = min(more, key=cost, default=best)
    if cost(option) > 0.98 * cost(best):
      break
    best = option
  return best


def bound(lengths: np.ndarray, length: int, batch_size: int) -> int:
  """The most examples that a row of `length` can hold, whichever they are."""
  shortest = np.sort(lengths)[:batch_size]
  return max(1, int(np.searchsorted(np.cumsum(shortest), length, side='right')))


def needs(
  lengths: np.ndarray, num_predictions: np.ndarray, length: int, limit: int, limits: Limits
) -> tuple[np.ndarray, np.ndarray]:
  """Rows that each group of batches needs at a row length and a limit of read-outs.

  Args:
    lengths, num_predictions: [groups, group, examples].

  Returns:
    int64 [groups, group, examples] rows of the examples, and int64 [groups] how many are needed.
  """
  shape = lengths.shape
  flat, flat_t = lengths.reshape(-1, shape[-1]), num_predictions.reshape(-1, shape[-1])
  if limits.layout == 'pack':
    rows, used = pack(flat, flat_t, length, limit)
  else:
    rows = np.where(flat > 0, np.arange(shape[-1]), -1)
    fits = (flat.max(1) <= length) & (flat_t.max(1) <= limit)
    used = np.where(fits, limits.batch_size, _NEVER)
  used = used.reshape(shape[:2]).max(1)
  multiple = limits.rows_multiple
  return rows.reshape(shape), np.where(used == _NEVER, used, -(-used // multiple) * multiple)


def plan(lengths: np.ndarray, num_predictions: np.ndarray, limits: Limits) -> list[Shape]:
  """The menu for a dataset, cheapest shape first.

  Depends on the lengths and the limits alone, not on the seed of a run: all seeds share compiled
  programs. It is not a promise: a rare batch may fit no shape (see `fallback`).
  """
  if limits.layout == 'pad_max':
    return [_largest(lengths, num_predictions, limits)]
  sample = _simulate(len(lengths), limits)
  sampled = [np.where(sample >= 0, x[sample], 0) for x in (lengths, num_predictions)]
  shapes, fits = _candidates(lengths, num_predictions, sampled, limits)
  tokens = sampled[0].sum()
  for horizon in _HORIZONS:
    cost = np.array([_cost(shape, limits, horizon) for shape in shapes])
    chosen = _choose(np.where(fits, cost, np.inf), _start(shapes, limits), limits.max_shapes)
    menu = sorted((shapes[i] for i in chosen), key=lambda s: _cost(s, limits, horizon))
    area = np.array([s.rows * s.length for s in shapes])
    best = np.array(chosen)[np.where(fits[:, chosen], cost[chosen], np.inf).argmin(1)]
    if limits.layout == 'pad' or 1 - tokens / (area[best].sum() * limits.group) <= _PADDING:
      break
  return menu


def fallback(
  menu: Sequence[Shape], longest: int, most: int, limits: Limits
) -> tuple[int, int, int]:
  """Row length, read-outs and multiple of rows for a group of batches that fits no shape.

  The rows are counted in coarse steps, so that few further shapes occur.
  """
  largest = max(menu, key=lambda s: (s.length, s.num_predictions))
  length = max(largest.length, round_up(longest, 8))
  # Where most is 1 (classification) the limit grows with the row; elsewhere it holds the examples.
  limit = max(largest.num_predictions * length // largest.length, round_up(most, 4))
  step = max(1, max(shape.rows * shape.length for shape in menu) // (4 * length))
  return length, limit, round_up(step, limits.rows_multiple)


def _simulate(n: int, limits: Limits) -> np.ndarray:
  """[groups, group, batch_size] examples of as many whole epochs as the sample allows, or -1."""
  rng = np.random.default_rng(0)
  size = limits.batch_size * limits.group
  per_epoch = -(-n // size)
  most = max(1, min(_GROUPS, _SAMPLE // size))
  orders = np.full((max(1, most // per_epoch), per_epoch * size), -1)
  for order in orders:
    order[:n] = rng.permutation(n)
  groups = orders.reshape(-1, limits.group, limits.batch_size)
  return groups[:most] if len(orders) == 1 else groups


def _levels(longest: int) -> list[int]:
  """Row lengths worth trying: multiples of 8, coarser where rows are long."""
  end = max(128, round_up(longest * 1.5, 32))
  steps = ((16, 128, 8), (128, 256, 16), (256, end + 1, 32))
  levels = {level for a, b, step in steps for level in range(a, min(b, end + 1), step)}
  return sorted({*levels, round_up(longest, 8), end})


def _candidates(
  lengths: np.ndarray, num_predictions: np.ndarray, sampled: list[np.ndarray], limits: Limits
) -> tuple[list[Shape], np.ndarray]:
  """Shapes worth having, and bool [groups, shapes] which group fits which."""
  longest = sampled[0].max((1, 2))
  levels = [limits.row_length] if limits.row_length else _levels(int(lengths.max()))
  if limits.layout == 'pad':
    top = limits.row_length or round_up(lengths.max(), 8)
    levels = [x for x in levels if x < top] + [top]
  levels = [level for level in levels if level >= np.quantile(longest, 0.02)] or [max(levels)]
  shapes, fits = [], []
  for length in levels:
    for limit in _limits_of_predictions(length, lengths, num_predictions, sampled, limits):
      needed = needs(*sampled, length, limit, limits)[1]
      possible = np.unique(needed[needed < _NEVER])
      if len(possible) > 16:
        possible = np.unique(np.quantile(possible, np.linspace(0, 1, 16), method='nearest'))
      for rows in possible.tolist():
        shapes.append(Shape(rows, length, limit))
        fits.append(needed <= rows)
  if not shapes:
    shapes, fits = [_largest(lengths, num_predictions, limits)], [np.ones(len(longest), bool)]
  return shapes, np.stack(fits, 1)


def _limits_of_predictions(
  length: int,
  lengths: np.ndarray,
  num_predictions: np.ndarray,
  sampled: list[np.ndarray],
  limits: Limits,
) -> list[int]:
  """Read-outs per row worth trying at a row length."""
  if not limits.prediction_cost:
    return [1 if limits.layout == 'pad' else bound(lengths, length, limits.batch_size)]
  if limits.layout == 'pad':
    most = sampled[1].max((1, 2))
    quantiles = np.quantile(most, (0.25, 0.5, 0.75, 0.95))
    return sorted({*(round_up(x, 4) for x in quantiles), round_up(num_predictions.max(), 4)})
  mean = length * num_predictions.sum() / lengths.sum()
  return sorted({min(length, round_up(mean * x, 4)) for x in (1.0, 1.08, 1.16, 1.3, 1.5)})


def _largest(lengths: np.ndarray, num_predictions: np.ndarray, limits: Limits) -> Shape:
  """A padded shape that holds every batch."""
  rows = round_up(limits.batch_size, limits.rows_multiple)
  most = int(num_predictions.max())
  length = limits.row_length or round_up(lengths.max(), 8)
  if limits.layout == 'pad_max':
    length = limits.max_length
  return Shape(rows, length, round_up(most, 4) if limits.prediction_cost else most)


def _start(shapes: Sequence[Shape], limits: Limits) -> list[int]:
  """What the menu begins with: a padded menu has to hold every batch."""
  if limits.layout == 'pack':
    return []
  return [max(range(len(shapes)), key=lambda i: (shapes[i].length, shapes[i].num_predictions))]


def _cost(shape: Shape, limits: Limits, horizon: float) -> float:
  tokens = shape.rows * shape.length * (1 + shape.length / horizon)
  return tokens + limits.prediction_cost * shape.rows * shape.num_predictions


def _choose(cost: np.ndarray, start: list[int], most: int) -> list[int]:
  """At most `most` columns of `cost` [groups, shapes] whose minima per row have a small sum."""
  # A group that fits no shape costs a compilation as well.
  outside = 3 * np.where(np.isfinite(cost), cost, 0).max()
  cost = np.minimum(cost, outside)
  chosen, current = list(start), np.full(len(cost), outside)
  if chosen:
    current = cost[:, chosen].min(1)
  while len(chosen) < most:
    totals = np.minimum(current[:, None], cost).sum(0)
    best = int(totals.argmin())
    if totals[best] > 0.996 * current.sum():
      break
    chosen.append(best)
    current = np.minimum(current, cost[:, best])
    chosen = _swap(cost, chosen, len(start), outside)
    current = cost[:, chosen].min(1)
  return chosen


def _swap(cost: np.ndarray, chosen: list[int], fixed: int, outside: float) -> list[int]:
  """Replaces one shape at a time by a better one, until none is better."""
  total = cost[:, chosen].min(1).sum()
  for _ in range(4):
    before = total
    for i in range(fixed, len(chosen)):
      others = [c for j, c in enumerate(chosen) if j != i]
      rest = cost[:, others].min(1) if others else np.full(len(cost), outside)
      totals = np.minimum(rest[:, None], cost).sum(0)
      best = int(totals.argmin())
      if totals[best] < total:
        chosen[i], total = best, totals[best]
    if total >= before:
      break
  return chosen
