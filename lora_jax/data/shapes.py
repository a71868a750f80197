"""The choice of the few shapes of batches that a run compiles.

A batch holds a fixed number of examples, so its number of tokens varies; a compiled program has a
fixed shape. `plan` simulates epochs and chooses the shapes with which a run ends soonest: one more
shape leaves less padding in every step and costs one more compilation. Each batch then takes the
cheapest of these shapes that it can be packed into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lora_jax.data.packing import NEVER, bound, pack, pack_rows, round_up

_SAMPLE, _GROUPS = 32768, 1024  # Examples, and groups of batches, that are packed when planning.
_PADDING = 0.085  # The aim; the bound that is promised is 0.10.
# Attention multiplies the cost of a token in a row of `length` by (1 + length / horizon). On CPU,
# 36 rows of 64 took 645 ms and 9 rows of 256 took 1000 ms (width 384): horizon 285. If rows that
# are best by this horizon leave too much padding, longer horizons are tried.
_HORIZONS = (300.0, 600.0, 1200.0, np.inf)


class Shape(NamedTuple):
  """Rows, columns and prediction positions per row: `input_ids` is [rows, length]."""

  rows: int
  length: int
  num_predictions: int


class Limits(NamedTuple):
  """The conditions that shapes have to meet.

  Attributes:
    layout: 'pack', 'pad' or 'pad_max'.
    batch_size: examples of a batch.
    max_length: tokens of an example, used by 'pad_max'.
    rows_multiple: divides the rows of each shape.
    row_length: columns of each shape; 0 to choose them.
    group: the number of batches that share a shape.
    max_shapes: the most shapes, each of which is one compilation.
    shape_cost: what a shape costs, in tokens of every batch: the seconds of a compilation over
      those of a token, over the number of batches. 0 is for a run that is long enough for any.
    prediction_cost: cost of a prediction position in tokens; 0 if every example has exactly one.
  """

  layout: str
  batch_size: int
  max_length: int
  rows_multiple: int
  row_length: int
  group: int
  max_shapes: int
  shape_cost: float
  prediction_cost: float


class Planned(NamedTuple):
  """The shapes of a run.

  Attributes:
    shapes: the cheapest first.
    costs: the mean cost of a batch in tokens, without `shape_cost`: the k-th with k shapes, k from
      1. There is one more than there are shapes if one more shape was found to cost too much.
  """

  shapes: list[Shape]
  costs: list[float]


def plan_rows(lengths: np.ndarray, row_length: int, shape_cost: float) -> list[int]:
  """At most three row lengths for `pack_rows` over a whole dataset, ascending.

  Args:
    lengths: of the examples.
    row_length: the length of all rows; 0 to choose.
    shape_cost: what one more length costs, in tokens.
  """
  longest = int(lengths.max())
  if row_length:
    return [row_length]
  sample = lengths[:: max(1, len(lengths) // 4096)]
  price = shape_cost * len(sample) / len(lengths)
  choices = [level for level in _levels(longest) if level >= np.quantile(lengths, 0.1)]

  def cost(levels: list[int]) -> float:
    sizes = pack_rows(np.minimum(sample, levels[-1]), levels)[1]
    return float(np.sum(sizes * (1 + sizes / _HORIZONS[0])))

  best = min(([level] for level in choices if level >= longest), key=cost)
  for _ in range(2):
    more = [sorted({*best, level}) for level in choices if level < best[-1] and level not in best]
    option = min(more, key=cost, default=best)
    if cost(option) + price > 0.98 * cost(best):
      break
    best = option
  return best


def plan_lengths(lengths: np.ndarray, shape_cost: float) -> list[int]:
  """At most five lengths to pad the examples of a whole dataset to, ascending.

  Args:
    lengths: of the examples.
    shape_cost: what one more length costs, in tokens.
  """
  levels = {round_up(x, 8) for x in np.quantile(lengths, (0.25, 0.5, 0.75, 0.95, 1))}

  def cost(levels: set[int]) -> float:
    ordered = np.array(sorted(levels))
    return float(ordered[np.searchsorted(ordered, lengths)].sum()) + shape_cost * len(levels)

  while len(levels) > 1:
    fewer = min((levels - {level} for level in levels - {max(levels)}), key=cost)
    if cost(fewer) > cost(levels):
      break
    levels = fewer
  return sorted(levels)


def needs(
  lengths: np.ndarray, num_predictions: np.ndarray, length: int, limit: int, limits: Limits
) -> tuple[np.ndarray, np.ndarray]:
  """Rows that each group of batches needs, for a row length and a limit of predictions per row.

  Args:
    lengths, num_predictions: [groups, group, examples].
    length, limit: tokens and predictions that a row holds.
    limits: the layout, and the multiple of rows.

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
    used = np.where(fits, limits.batch_size, NEVER)
  used = used.reshape(shape[:2]).max(1)
  multiple = limits.rows_multiple
  return rows.reshape(shape), np.where(used == NEVER, used, -(-used // multiple) * multiple)


def plan(lengths: np.ndarray, num_predictions: np.ndarray, limits: Limits) -> Planned:
  """The shapes for a dataset.

  They depend on the lengths and the limits alone, not on the seed of a run, so all seeds share
  compiled programs. A rare batch may fit none of them (see `fallback`).
  """
  if limits.layout == 'pad_max':
    largest = _largest(lengths, num_predictions, limits)
    return Planned([largest], [_cost(largest, limits, np.inf)])
  sample = _simulate(len(lengths), limits)
  masked = lambda x: np.where(sample >= 0, x[sample], 0)
  sampled = masked(lengths), masked(num_predictions)
  shapes, fits = _candidates(lengths, num_predictions, sampled, limits)
  area = np.array([shape.rows * shape.length for shape in shapes])
  tokens, start = sampled[0].sum(), _start(shapes, limits)
  for horizon in _HORIZONS:
    cost = np.array([_cost(shape, limits, horizon) for shape in shapes])
    each = np.where(fits, cost, np.inf)
    chosen, costs = _choose(each, start, limits.max_shapes, 0.0)
    best = np.array(chosen)[each[:, chosen].argmin(1)]
    if limits.layout == 'pad' or 1 - tokens / (area[best].sum() * limits.group) <= _PADDING:
      break
  if limits.shape_cost:
    chosen, costs = _choose(each, start, limits.max_shapes, limits.shape_cost * len(each))
  ordered = sorted((shapes[i] for i in chosen), key=lambda shape: _cost(shape, limits, horizon))
  return Planned(ordered, [float(total) / len(each) for total in costs])


def fallback(
  shapes: Sequence[Shape], longest: int, most: int, limits: Limits
) -> tuple[int, int, int]:
  """Row length, predictions per row and multiple of rows for a group of batches that fits no shape.

  The multiple of rows is coarse, so that few further shapes occur.

  Args:
    shapes: those of `plan`.
    longest, most: the most tokens and the most predictions of an example.
    limits: the multiple that the rows must be of.
  """
  largest = max(shapes, key=lambda s: (s.length, s.num_predictions))
  length = max(largest.length, round_up(longest, 8))
  # In classification, where most is 1, the limit grows with the row.
  limit = max(largest.num_predictions * length // largest.length, round_up(most, 4))
  step = max(1, max(shape.rows * shape.length for shape in shapes) // (4 * length))
  return length, limit, round_up(step, limits.rows_multiple)


def _simulate(n: int, limits: Limits) -> np.ndarray:
  """Examples [groups, group, batch_size], or -1, of as many whole epochs as the sample allows."""
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
  """Row lengths to try: multiples of 8, in larger steps for long rows."""
  end = max(128, round_up(longest * 1.5, 32))
  steps = ((16, 128, 8), (128, 256, 16), (256, end + 1, 32))
  levels = {level for a, b, step in steps for level in range(a, min(b, end + 1), step)}
  return sorted({*levels, round_up(longest, 8), end})


def _candidates(
  lengths: np.ndarray,
  num_predictions: np.ndarray,
  sampled: tuple[np.ndarray, np.ndarray],
  limits: Limits,
) -> tuple[list[Shape], np.ndarray]:
  """Shapes to choose from, and bool [groups, shapes]: whether the group fits the shape."""
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
      possible = np.unique(needed[needed < NEVER])
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
  sampled: tuple[np.ndarray, np.ndarray],
  limits: Limits,
) -> list[int]:
  """Numbers of predictions per row to try at a row length."""
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
  """The shapes to begin with: if rows are not packed, the largest, which holds every batch."""
  if limits.layout == 'pack':
    return []
  return [max(range(len(shapes)), key=lambda i: (shapes[i].length, shapes[i].num_predictions))]


def _cost(shape: Shape, limits: Limits, horizon: float) -> float:
  """The cost of a batch of this shape, in tokens."""
  tokens = shape.rows * shape.length * (1 + shape.length / horizon)
  return tokens + limits.prediction_cost * shape.rows * shape.num_predictions


def _choose(
  cost: np.ndarray, start: list[int], most: int, price: float
) -> tuple[list[int], list[float]]:
  """At most `most` columns of `cost` [groups, shapes] whose sum of minima per row is small.

  Args:
    cost: infinite where a group does not fit a shape.
    start: the columns to begin with.
    most: the number of columns.
    price: what has to be saved by one more column.

  Returns:
    the columns; and the sum with the first, with the first two and so on. The last may be that of
    one more column, which saves less than its price.
  """
  # A group that fits no shape costs a compilation as well.
  outside = 3 * np.where(np.isfinite(cost), cost, 0).max() + price
  cost = np.minimum(cost, outside)
  chosen, current = list(start), np.full(len(cost), outside)
  if chosen:
    current = cost[:, chosen].min(1)
  sums = [float(current.sum())] * len(chosen)
  while len(chosen) < most:
    totals = np.minimum(current[:, None], cost).sum(0)
    best = int(totals.argmin())
    if not chosen or totals[best] + max(price, 0.004 * current.sum()) <= current.sum():
      chosen.append(best)
      chosen = _exchange(cost, chosen, len(start), outside)
      current = cost[:, chosen].min(1)
      sums.append(float(current.sum()))
      continue
    sums.append(float(totals[best]))
    break
  return chosen, sums


def _exchange(cost: np.ndarray, chosen: list[int], fixed: int, outside: float) -> list[int]:
  """Replaces one shape at a time by a better one, until there is none."""
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
