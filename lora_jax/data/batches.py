"""Examples to batches of few shapes, in an order that (seed, epoch) decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from lora_jax.data import packing
from lora_jax.data.dataset import Dataset
from lora_jax.data.layout import ALL, Batch, HostShard, Writer
from lora_jax.data.packing import Shape
from lora_jax.data.sources import nearest

LAYOUTS = ('pack', 'pad', 'pad_max')
_CHUNK = 64  # groups of batches packed at once
_MEASURED = 512  # groups of batches that `padding` looks at


class Batches:
  """Training batches of exactly `batch_size` examples; the last one of an epoch may hold fewer.

  Attributes:
    shapes: the menu of shapes. A rare batch that fits none of them gets a further one.
    steps_per_epoch: batches of an epoch.
    tokens: tokens of an epoch, without padding.
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
    prediction_cost: float = 1.0,
    host_shard: HostShard = ALL,
  ):
    """Plans the shapes, which takes a second for a large dataset.

    Args:
      layout: 'pack' (several examples in a row), 'pad' (one in a row, as long as the batch's
        longest needs, rounded up to one of a few lengths) or 'pad_max' (to `max_length`).
      max_length: of an example; 0 for the longest of the dataset.
      rows_multiple: divides the number of rows: devices on the data axis x accumulation steps.
      row_length: columns of every batch; 0 to choose them.
      group: this many consecutive batches have one shape and are stacked on a leading axis.
      max_shapes: of the menu: each is one compilation, and fewer leave more padding.
      prediction_cost: cost of a read-out of a language model, in tokens: about vocabulary x width
        over the parameters of all layers (GPT-2 M: 0.17).
      host_shard: rows of each batch that are laid out, for one of several hosts; `shapes` and
        `batch_size` are of the whole. Its parts divide `rows_multiple`.

    Raises:
      ValueError: for an unknown layout, an empty dataset, sizes below 1, or an example that is
        longer than `max_length` or `row_length`.
    """
    _check(dataset, layout, max_length, row_length)
    _check_sizes(
      batch_size=batch_size, rows_multiple=rows_multiple, group=group, max_shapes=max_shapes
    )
    if rows_multiple % host_shard.parts:
      raise ValueError(f'expected {host_shard.parts} parts to divide rows_multiple={rows_multiple}')
    self.dataset, self.seed, self.batch_size, self.group = dataset, seed, batch_size, group
    self.host_shard = host_shard
    self.limits = packing.Limits(
      layout=layout,
      batch_size=min(batch_size, len(dataset)),
      max_length=max_length or int(dataset.lengths.max()),
      rows_multiple=rows_multiple,
      row_length=row_length,
      group=group,
      max_shapes=max_shapes,
      prediction_cost=prediction_cost if dataset.target_starts is not None else 0.0,
    )
    self.shapes = packing.plan(dataset.lengths, dataset.num_predictions, self.limits)
    self.steps_per_epoch = -(-len(dataset) // batch_size)
    self.tokens = int(dataset.lengths.sum())
    self._writer = Writer(dataset)

  def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
    """Batches of an epoch from step `start` on.

    Every item has a leading axis of `group` batches: fewer at the end of an epoch, and at the
    beginning if `start` lies inside a group. Batch k is the same, in its shape too, whatever
    `start` is.
    """
    first = start % self.group
    for shape, rows, examples in self._planned(epoch, start // self.group):
      batches = [
        self._writer.write(*self.host_shard.of(shape, rows[i]), examples[i])
        for i in range(first, len(rows))
        if examples[i, 0] >= 0
      ]
      first = 0
      if batches:
        yield {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}

  def order(self, epoch: int) -> np.ndarray:
    """int64 [n]: the examples in the order of an epoch, a uniform permutation."""
    bits = np.random.Philox(np.random.SeedSequence([self.seed, epoch]))
    return np.random.Generator(bits).permutation(len(self.dataset))

  @property
  def padding(self) -> float:
    """Fraction of padding among all tokens, empty rows included, over the first epoch's batches."""
    return self._waste['tokens']

  @property
  def prediction_padding(self) -> float:
    """Fraction of unused prediction positions, measured as `padding`."""
    return self._waste['num_predictions']

  @cached_property
  def _waste(self) -> dict[str, float]:
    cells = num_predictions = tokens = used = 0
    for i, (shape, _, examples) in enumerate(self._planned(0, 0)):
      if i == _MEASURED:
        break
      there = examples[examples >= 0]
      batches = int(np.sum(examples[:, 0] >= 0))
      cells += batches * shape.rows * shape.length
      num_predictions += batches * shape.rows * shape.num_predictions
      tokens += int(self.dataset.lengths[there].sum())
      used += int(self.dataset.num_predictions[there].sum())
    return {'tokens': 1 - tokens / cells, 'num_predictions': 1 - used / num_predictions}

  def _planned(self, epoch: int, group: int) -> Iterator[tuple[Shape, np.ndarray, np.ndarray]]:
    """From a group on: the shape, and rows and examples [group, batch_size], -1 for none."""
    size = self.limits.batch_size * self.group
    order = self.order(epoch)
    for begin in range(group * size, len(order), _CHUNK * size):
      part = order[begin : begin + _CHUNK * size]
      examples = np.full(packing.round_up(len(part), size), -1)
      examples[: len(part)] = part
      examples = examples.reshape(-1, self.group, self.limits.batch_size)
      for i, (shape, rows) in enumerate(self._fit(examples)):
        yield shape, rows, examples[i]

  def _fit(self, examples: np.ndarray) -> list[tuple[Shape, np.ndarray]]:
    """The cheapest shape for each group of batches, and the rows of its examples."""
    data, limits = self.dataset, self.limits
    lengths, num_predictions = (
      np.where(examples >= 0, x[examples], 0) for x in (data.lengths, data.num_predictions)
    )
    fitted: dict[int, tuple[Shape, np.ndarray]] = {}
    longest, most = lengths.max((1, 2)), num_predictions.max((1, 2))
    total = lengths.sum(2).max(1)
    for shape in self.shapes:
      fits = (longest <= shape.length) & (most <= shape.num_predictions)
      fits &= total <= shape.rows * shape.length
      pending = [i for i in np.flatnonzero(fits).tolist() if i not in fitted]
      if pending:
        rows, needed = packing.needs(
          lengths[pending], num_predictions[pending], shape.length, shape.num_predictions, limits
        )
        fitted |= {i: (shape, rows[j]) for j, i in enumerate(pending) if needed[j] <= shape.rows}
    for i in range(len(examples)):
      if i not in fitted:
        length, limit, step = packing.fallback(self.shapes, int(longest[i]), int(most[i]), limits)
        rows, needed = packing.needs(lengths[[i]], num_predictions[[i]], length, limit, limits)
        fitted[i] = (Shape(packing.round_up(needed[0], step), length, limit), rows[0])
    return [fitted[i] for i in range(len(examples))]


class eval_batches:  # As `range`: called as a function, iterated as often as wanted.
  """Batches that hold every example exactly once, similar lengths together; `index` sorts them.

  Iterating again gives the same batches. A batch holds about `batch_size` examples: what is fixed
  is its shape. Arguments are those of `Batches`.

  Attributes:
    shapes: the shape of each batch.
    padding, prediction_padding: share of padding tokens and of unused read-outs.
  """

  def __init__(
    self,
    dataset: Dataset,
    batch_size: int,
    *,
    layout: str = 'pack',
    max_length: int = 0,
    rows_multiple: int = 1,
    row_length: int = 0,
  ):
    _check(dataset, layout, max_length, row_length)
    _check_sizes(batch_size=batch_size, rows_multiple=rows_multiple)
    self._writer = Writer(dataset)
    lengths, num_predictions = dataset.lengths, dataset.num_predictions
    longest = int(lengths.max())
    if layout == 'pack':
      rows, sizes = packing.pack_rows(lengths, packing.plan_rows(lengths, row_length))
    else:
      levels = {packing.round_up(x, 8) for x in np.quantile(lengths, (0.25, 0.5, 0.75, 0.95, 1))}
      if row_length or layout == 'pad_max':
        levels = {row_length or max_length or longest}
      levels = np.array(sorted(levels))
      rows, sizes = np.arange(len(dataset)), levels[np.searchsorted(levels, lengths)]
    in_row = np.bincount(rows, num_predictions, len(sizes)).astype(np.int64)
    examples = np.argsort(rows, kind='stable')
    starts = np.searchsorted(rows[examples], np.arange(len(sizes) + 1))
    self._planned: list[tuple[Shape, np.ndarray, np.ndarray]] = []
    for length in np.unique(sizes).tolist():
      mine = np.flatnonzero(sizes == length)
      mine = mine[np.argsort(-in_row[mine], kind='stable')]
      per_batch = (
        max(1, round(batch_size * lengths.mean() / length)) if layout == 'pack' else batch_size
      )
      per_batch = -(-len(mine) // -(-len(mine) // per_batch))
      per_batch = packing.round_up(per_batch, rows_multiple)
      # Only a language model's read-outs are dear enough for a shape of their own.
      dear = dataset.target_starts is not None and layout == 'pack'
      levels = (0.35, 0.75, 1) if dear else (1,)
      limits = np.unique(np.quantile(in_row[mine][::per_batch], levels, method='higher'))
      for begin in range(0, len(mine), per_batch):
        part = mine[begin : begin + per_batch]
        held = [examples[starts[row] : starts[row + 1]] for row in part]
        limit = int(limits[np.searchsorted(limits, in_row[part].max())])
        self._planned.append(
          (
            Shape(per_batch, length, limit),
            np.repeat(np.arange(len(part)), [len(x) for x in held]),
            np.concatenate(held),
          )
        )
    self.shapes = [shape for shape, _, _ in self._planned]
    self.padding = float(1 - lengths.sum() / sum(s.rows * s.length for s in self.shapes))
    self.prediction_padding = float(
      1 - num_predictions.sum() / sum(s.rows * s.num_predictions for s in self.shapes)
    )

  def __len__(self) -> int:
    return len(self._planned)

  def __iter__(self) -> Iterator[Batch]:
    for shape, rows, examples in self._planned:
      yield self._writer.write(shape, rows, examples)


def collect(index: Sequence[np.ndarray], outputs: Sequence[np.ndarray], n: int) -> np.ndarray:
  """Outputs of read-outs, back in the order of the dataset, summed over each example's read-outs.

  Args:
    index: of each batch, int [..., E].
    outputs: of each batch, [..., E, *rest]: the same leading axes.
    n: examples of the dataset.

  Returns:
    [n, *rest]. An example with one read-out (classification) gets its output as it is.

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
    raise ValueError(f'Unknown batching {layout!r}{nearest(layout, LAYOUTS)}')
  if not len(dataset):
    raise ValueError('expected at least one example, found none: the split or the limit is empty')
  longest = int(dataset.lengths.argmax())
  for name, most in (('max_length', max_length), ('row_length', row_length)):
    if most and dataset.lengths[longest] > most:
      raise ValueError(
        f'example {longest} has {dataset.lengths[longest]} tokens, {name} is {most}: tokenise with '
        f'max_length={most} or raise {name}'
      )


def _check_sizes(**sizes: int) -> None:
  if wrong := {name: size for name, size in sizes.items() if size < 1}:
    raise ValueError(f'expected sizes of at least 1, found {wrong}')
