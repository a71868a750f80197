"""Batches of few shapes, for training (in an order that (seed, epoch) decides) and evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np

from lora_jax.data import packing, shapes
from lora_jax.data.dataset import Dataset
from lora_jax.data.layout import ALL, Batch, HostShard, Writer
from lora_jax.data.shapes import Shape
from lora_jax.errors import nearest

LAYOUTS = ('pack', 'pad', 'pad_max')
_TOGETHER = 64  # Groups of batches that are packed at once.
_MEASURED = 512  # Groups of batches that `padding` looks at.


class Plan(NamedTuple):
  """Where examples go: their shape, and row by row [examples] or, of a group, [group, examples]."""

  shape: Shape
  rows: np.ndarray
  examples: np.ndarray


class Batches:
  """Training batches of exactly `batch_size` examples; the last one of an epoch may hold fewer.

  Attributes:
    planned: the planned shapes and what batches cost with fewer or more of them. A rare batch that
      fits none of the shapes gets a further one.
    steps_per_epoch: the number of batches of an epoch.
    group: the number of batches of each item of an epoch, all of which thus make one program.
    tokens: the number of tokens of an epoch, without padding.
  """

  def __init__(
    self,
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int = 0,
    layout: str = 'pack',
    max_length: int = 0,
    rows_multiple: int = 1,
    row_length: int = 0,
    group: int = 1,
    max_shapes: int = 7,
    shape_cost: float = 0.0,
    prediction_cost: float = 1.0,
    host_shard: HostShard = ALL,
  ):
    """Plans the shapes, which takes a second for a large dataset.

    Args:
      dataset: the training examples.
      batch_size: examples of a batch, on all hosts together.
      seed: decides the order of the examples, together with the epoch.
      layout: 'pack' (several examples in a row), 'pad' (one in a row, padded to one of a few
        lengths that holds the longest of the batch) or 'pad_max' (padded to `max_length`).
      max_length: the most tokens of an example; 0 for the longest of the dataset.
      rows_multiple: divides the number of rows: devices on the data axis x accumulation steps.
      row_length: columns of every batch; 0 to choose them.
      group: up to this many consecutive batches have one shape and are stacked on a leading axis:
        as few as make no more items of an epoch, so that the last one lacks few batches.
      max_shapes: the most shapes; each is one compilation, and fewer leave more padding.
      shape_cost: what one more shape costs, in tokens of every batch: see `shapes.Limits`.
      prediction_cost: cost of a language model's prediction position, in tokens: about vocabulary x
        width over the parameters of all layers (GPT-2 M: 0.17).
      host_shard: the rows of each batch to lay out, if this host is one of several; the shapes and
        `batch_size` remain those of the whole batch. Its parts divide `rows_multiple`.

    Raises:
      ValueError: for an unknown layout, an empty dataset, sizes below 1, or an example that is
        longer than `max_length` or `row_length`.
    """
    _check(dataset, layout, max_length, row_length)
    _check_sizes(
      batch_size=batch_size, rows_multiple=rows_multiple, group=group, max_shapes=max_shapes
    )
    if rows_multiple % host_shard.parts:
      raise ValueError(
        f'rows_multiple={rows_multiple} is not a multiple of the {host_shard.parts} host shards'
      )
    self.steps_per_epoch = -(-len(dataset) // batch_size)
    self.group = group = -(-self.steps_per_epoch // -(-self.steps_per_epoch // group))
    self.dataset, self.seed, self.batch_size = dataset, seed, batch_size
    self.host_shard = host_shard
    self.limits = shapes.Limits(
      layout=layout,
      batch_size=min(batch_size, len(dataset)),
      max_length=max_length or int(dataset.lengths.max()),
      rows_multiple=rows_multiple,
      row_length=row_length,
      group=group,
      max_shapes=max_shapes,
      shape_cost=shape_cost,
      prediction_cost=prediction_cost if dataset.target_starts is not None else 0.0,
    )
    self.planned = shapes.plan(dataset.lengths, dataset.num_predictions, self.limits)
    self.tokens = int(dataset.lengths.sum())
    self._writer = Writer(dataset)

  def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch[np.ndarray]]:
    """Batches of an epoch from step `start` on.

    Every item has a leading axis of `group` batches. Where fewer are left, at the end of an epoch
    or at the beginning if `start` lies inside a group, the others are empty and stand last: see
    `updates`. Batch k and its shape do not depend on `start`.
    """
    done = start % self.group
    for plan in self._plans(epoch, start):
      rows = np.pad(plan.rows[done:], ((0, done), (0, 0)), constant_values=-1)
      batches = [
        self._writer.write(*self.host_shard.of(plan.shape, places), examples)
        for places, examples in zip(rows, np.roll(plan.examples, -done, axis=0))
      ]
      yield _stack(batches)
      done = 0

  def updates(self, done: int) -> int:
    """How many batches of an item hold examples, from 1 to `group`.

    Args:
      done: the steps of a run before the item, from 0 up, those of earlier epochs too.
    """
    within = done % self.steps_per_epoch
    return min(self.group - within % self.group, self.steps_per_epoch - within)

  def shapes(self, epoch: int, start: int = 0) -> Iterator[Shape]:
    """The shape of each item of `epoch`, whose arrays are not made."""
    return (plan.shape for plan in self._plans(epoch, start))

  def order(self, epoch: int) -> np.ndarray:
    """int64 [n]: the order of the examples in an epoch, a uniform permutation."""
    bits = np.random.Philox(np.random.SeedSequence([self.seed, epoch]))
    return np.random.Generator(bits).permutation(len(self.dataset))

  @property
  def padding(self) -> float:
    """Fraction of padded tokens, empty rows included, over the first epoch's batches."""
    return self._waste['tokens']

  @property
  def prediction_padding(self) -> float:
    """Fraction of unused prediction positions, measured as `padding` is."""
    return self._waste['num_predictions']

  @cached_property
  def _waste(self) -> dict[str, float]:
    padded_tokens = positions = tokens = predictions = 0
    for shape, _, examples in itertools.islice(self._plans(0, 0), _MEASURED):
      present = examples[examples >= 0]
      batches = len(examples)  # The empty ones are computed, too.
      padded_tokens += batches * shape.rows * shape.length
      positions += batches * shape.rows * shape.num_predictions
      tokens += int(self.dataset.lengths[present].sum())
      predictions += int(self.dataset.num_predictions[present].sum())
    return {'tokens': 1 - tokens / padded_tokens, 'num_predictions': 1 - predictions / positions}

  def _plans(self, epoch: int, start: int) -> Iterator[Plan]:
    """Plans of the groups of an epoch from that of step `start` on, [group, batch_size].

    Where there is no example, the example and its row are -1.
    """
    if start >= self.steps_per_epoch:
      return
    size = self.limits.batch_size * self.group
    order = self.order(epoch)
    for begin in range(start // self.group * size, len(order), _TOGETHER * size):
      part = order[begin : begin + _TOGETHER * size]
      examples = np.full(packing.round_up(len(part), size), -1)
      examples[: len(part)] = part
      examples = examples.reshape(-1, self.group, self.limits.batch_size)
      for i, (shape, rows) in enumerate(self._fit(examples)):
        yield Plan(shape, rows, examples[i])

  def _fit(self, examples: np.ndarray) -> list[tuple[Shape, np.ndarray]]:
    """The cheapest shape that holds each group of batches, and the rows of its examples."""
    data, limits = self.dataset, self.limits
    lengths, num_predictions = (
      np.where(examples >= 0, x[examples], 0) for x in (data.lengths, data.num_predictions)
    )
    fits_in: dict[int, tuple[Shape, np.ndarray]] = {}
    longest, most = lengths.max((1, 2)), num_predictions.max((1, 2))
    total = lengths.sum(2).max(1)
    for shape in self.planned.shapes:
      fits = (longest <= shape.length) & (most <= shape.num_predictions)
      fits &= total <= shape.rows * shape.length
      pending = [i for i in np.flatnonzero(fits).tolist() if i not in fits_in]
      if pending:
        rows, needed = shapes.needs(
          lengths[pending], num_predictions[pending], shape.length, shape.num_predictions, limits
        )
        fits_in |= {i: (shape, rows[j]) for j, i in enumerate(pending) if needed[j] <= shape.rows}
    for i in range(len(examples)):
      if i not in fits_in:
        length, limit, step = shapes.fallback(
          self.planned.shapes, int(longest[i]), int(most[i]), limits
        )
        rows, needed = shapes.needs(lengths[[i]], num_predictions[[i]], length, limit, limits)
        fits_in[i] = (Shape(packing.round_up(needed[0], step), length, limit), rows[0])
    return [fits_in[i] for i in range(len(examples))]


class EvalBatches:
  """Batches that hold every example exactly once; `index` says which. Made by `eval_batches`.

  Iterating again gives the same batches.

  Attributes:
    shapes: the shape of each batch.
    padding: fraction of padded tokens.
    prediction_padding: fraction of unused prediction positions.
  """

  def __init__(self, dataset: Dataset, plans: Sequence[Plan]):
    self._writer, self._plans = Writer(dataset), plans
    self.shapes = [plan.shape for plan in plans]
    padded_tokens = sum(shape.rows * shape.length for shape in self.shapes)
    positions = sum(shape.rows * shape.num_predictions for shape in self.shapes)
    self.padding = float(1 - dataset.lengths.sum() / padded_tokens)
    self.prediction_padding = float(1 - dataset.num_predictions.sum() / positions)

  def __len__(self) -> int:
    return len(self._plans)

  def __iter__(self) -> Iterator[Batch[np.ndarray]]:
    for plan in self._plans:
      yield self._writer.write(*plan)


def eval_batches(
  dataset: Dataset,
  batch_size: int,
  *,
  layout: str = 'pack',
  max_length: int = 0,
  rows_multiple: int = 1,
  row_length: int = 0,
  shape_cost: float = 0.0,
) -> EvalBatches:
  """Batches for evaluation, in which examples of similar lengths are together.

  A batch holds about `batch_size` examples: its shape is fixed, not their number. Arguments and
  errors are those of `Batches`, except for `shape_cost`: what one more shape costs, in tokens of a
  pass over the dataset.
  """
  _check(dataset, layout, max_length, row_length)
  _check_sizes(batch_size=batch_size, rows_multiple=rows_multiple)
  lengths = dataset.lengths
  if layout == 'pack':
    levels = shapes.plan_rows(lengths, row_length, shape_cost)
    rows, sizes = packing.pack_rows(lengths, levels)
  else:
    longest = row_length or (max_length if layout == 'pad_max' else 0)
    levels = np.array([longest] if longest else shapes.plan_lengths(lengths, shape_cost))
    rows, sizes = np.arange(len(dataset)), levels[np.searchsorted(levels, lengths)]
  plans: list[Plan] = []
  for length in np.unique(sizes).tolist():
    per_batch = batch_size  # Rows of a batch, before they are spread evenly.
    if layout == 'pack':
      per_batch = max(1, round(batch_size * lengths.mean() / length))
    # Only the predictions of a language model cost enough for several shapes of one length, and
    # only if a pass is long: three shapes save a fifth of the positions.
    several = dataset.target_starts is not None and layout == 'pack'
    several &= 3 * shape_cost < 0.2 * dataset.num_predictions.sum()
    plans += _plan_rows(dataset, rows, sizes, length, per_batch, rows_multiple, several)
  return EvalBatches(dataset, plans)


def _plan_rows(
  dataset: Dataset,
  rows: np.ndarray,
  sizes: np.ndarray,
  length: int,
  per_batch: int,
  rows_multiple: int,
  several: bool,
) -> Iterator[Plan]:
  """Batches of the rows of one length, those with the most predictions first.

  Args:
    rows: [examples] the row of each.
    sizes: [rows] the length of each.
    length: the length of the rows to plan.
    per_batch: about how many rows a batch has.
    rows_multiple: divides the rows of a batch.
    several: whether batches may differ in their limits of predictions per row.
  """
  in_row = np.bincount(rows, dataset.num_predictions, len(sizes)).astype(np.int64)
  examples = np.argsort(rows, kind='stable')
  starts = np.searchsorted(rows[examples], np.arange(len(sizes) + 1))
  todo = np.flatnonzero(sizes == length)
  todo = todo[np.argsort(-in_row[todo], kind='stable')]
  per_batch = -(-len(todo) // -(-len(todo) // per_batch))
  per_batch = packing.round_up(per_batch, rows_multiple)
  levels = (0.35, 0.75, 1) if several else (1,)
  limits = np.unique(np.quantile(in_row[todo][::per_batch], levels, method='higher'))
  for begin in range(0, len(todo), per_batch):
    part = todo[begin : begin + per_batch]
    members = [examples[starts[row] : starts[row + 1]] for row in part]
    limit = int(limits[np.searchsorted(limits, in_row[part].max())])
    places = np.repeat(np.arange(len(part)), [len(x) for x in members])
    yield Plan(Shape(per_batch, length, limit), places, np.concatenate(members))


def collect(index: Sequence[np.ndarray], outputs: Sequence[np.ndarray], n: int) -> np.ndarray:
  """Outputs in the order of the dataset, summed over the predictions of each example.

  Args:
    index: of each batch, int [..., E].
    outputs: of each batch, [..., E, *rest]: the same leading axes.
    n: examples of the dataset.

  Returns:
    [n, *rest]. An example with one prediction (classification) gets its output as it is.

  Raises:
    ValueError: if an example has no output, or an index is not of the dataset: the batches are not
      those of the whole dataset.
  """
  rest = np.shape(outputs[0])[np.ndim(index[0]) :]
  flat = np.concatenate([np.reshape(i, -1) for i in index])
  values = np.concatenate([np.reshape(x, (-1, *rest)) for x in outputs])
  values, flat = values[flat >= 0], flat[flat >= 0]
  missing = np.setdiff1d(np.arange(n), flat)
  if len(missing) or flat.max(initial=-1) >= n:
    raise ValueError(
      f'expected outputs for {n} examples, found none for {len(missing)} of them '
      f'({missing[:5].tolist()}...) and indices up to {flat.max(initial=-1)}'
    )
  collected = np.zeros((n, *rest), values.dtype)
  np.add.at(collected, flat, values)
  return collected


def _check(dataset: Dataset, layout: str, max_length: int, row_length: int) -> None:
  if layout not in LAYOUTS:
    raise ValueError(f'unknown layout {layout!r}. {nearest(layout, LAYOUTS)}')
  if not len(dataset) and dataset.left_out:
    raise ValueError(
      f'none of {dataset.left_out} examples is left: their contexts alone fill '
      'config.data.max_length tokens, so there is no target. Raise it.'
    )
  if not len(dataset):
    raise ValueError('expected at least one example, found none: the split or the limit is empty')
  longest = int(dataset.lengths.argmax())
  for name, most in (('max_length', max_length), ('row_length', row_length)):
    if most and dataset.lengths[longest] > most:
      raise ValueError(
        f'example {longest} has {dataset.lengths[longest]} tokens, {name} is {most}: tokenize with '
        f'max_length={most} or raise {name}'
      )


def _check_sizes(**sizes: int) -> None:
  if wrong := {name: size for name, size in sizes.items() if size < 1}:
    raise ValueError(f'expected sizes of at least 1, found {wrong}')


def _stack(batches: Sequence[Batch[np.ndarray]]) -> Batch[np.ndarray]:
  """Batches of one shape on a new leading axis."""
  named = cast(Sequence[dict[str, np.ndarray]], batches)
  arrays = {name: np.stack([batch[name] for batch in named]) for name in named[0]}
  return cast(Batch[np.ndarray], arrays)
