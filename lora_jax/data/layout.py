"""The arrays of a batch (`Batch`), and `Writer`, which lays examples out as such arrays."""

from __future__ import annotations

from typing import Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from lora_jax.data.dataset import Dataset
from lora_jax.data.shapes import Shape

Array = TypeVar('Array')  # np.ndarray on the host; train/ puts the same batch on devices.


class Batch(TypedDict, Generic[Array]):
  """Arrays of R rows, L columns and E prediction positions per row.

  All are int32, except that `weights` and the labels of a regression are float32. A group of
  batches has the group as a further leading axis.

  Attributes:
    input_ids: [R, L] tokens.
    segment_ids: [R, L]; 0 is padding, k the k-th example of the row.
    position_ids: [R, L]; they begin at 0 in each example.
    token_type_ids: [R, L]; encoders only.
    prediction_positions: [R, E] the columns whose outputs are predictions.
    labels: [R, E] what is to be predicted there.
    weights: [R, E] 1 for a prediction, 0 for an unused position.
    index: [R, E] the example that a prediction belongs to, -1 for an unused position.
  """

  input_ids: Array
  segment_ids: Array
  position_ids: Array
  token_type_ids: NotRequired[Array]
  prediction_positions: Array
  labels: Array
  weights: Array
  index: Array


BY_PREDICTION = ('prediction_positions', 'labels', 'weights', 'index')  # Those that are [R, E].


class HostShard(NamedTuple):
  """The rows of each batch that this host lays out: some of its equal parts, in their order.

  Attributes:
    parts: the number of parts; it divides the rows.
    held: the parts that this host lays out.
  """

  parts: int = 1
  held: tuple[int, ...] = (0,)

  def of(self, shape: Shape, rows: np.ndarray) -> tuple[Shape, np.ndarray]:
    """The shape of this host's rows, and where among them each of `rows` lies; -1 if elsewhere."""
    size = shape.rows // self.parts
    place = np.full(self.parts, -1)
    place[list(self.held)] = np.arange(len(self.held))
    part, row = np.divmod(rows, size)
    here = (rows >= 0) & (place[part] >= 0)
    return shape._replace(rows=size * len(self.held)), np.where(here, place[part] * size + row, -1)


ALL = HostShard()  # One part, which this host holds.


class Writer:
  """Lays examples out as arrays, without a loop over examples."""

  def __init__(self, dataset: Dataset):
    self.dataset = dataset
    self.starts = np.cumsum(dataset.lengths) - dataset.lengths
    self.ids = np.concatenate(dataset.ids).astype(np.int32)
    types = dataset.token_types
    self.types = None if types is None else np.concatenate(types).astype(np.int32)
    labels = dataset.labels
    self.labels = np.zeros(len(dataset), np.int32) if labels is None else labels

  def write(self, shape: Shape, rows: np.ndarray, examples: np.ndarray) -> Batch[np.ndarray]:
    """A batch of these examples in these rows; those in a row below 0 are left out."""
    order = np.argsort(rows, kind='stable')[np.sum(rows < 0) :]
    rows, examples = rows[order], examples[order]
    lengths = self.dataset.lengths[examples]
    first = np.searchsorted(rows, rows)  # the first example of each example's row
    before = np.cumsum(lengths) - lengths
    offsets = before - before[first]  # the column at which each example begins

    positions = np.arange(lengths.sum()) - np.repeat(before, lengths)
    cells = np.repeat(rows * shape.length + offsets, lengths) + positions
    tokens = np.repeat(self.starts[examples], lengths) + positions
    segments = np.repeat(np.arange(len(rows)) - first + 1, lengths)
    size = (shape.rows, shape.length)
    columns, labels, counts = self._predictions(examples, offsets)
    before = np.cumsum(counts) - counts
    entries = np.arange(counts.sum())
    entries += np.repeat(rows * shape.num_predictions - before[first], counts)
    outputs = (shape.rows, shape.num_predictions)
    batch: Batch[np.ndarray] = {
      'input_ids': _scatter(size, cells, self.ids[tokens]),
      'segment_ids': _scatter(size, cells, segments),
      'position_ids': _scatter(size, cells, positions),
      'prediction_positions': _scatter(outputs, entries, columns),
      'labels': _scatter(outputs, entries, labels, labels.dtype),
      'weights': _scatter(outputs, entries, np.ones(len(entries)), np.float32),
      'index': _scatter(outputs, entries, np.repeat(examples, counts), fill=-1),
    }
    if self.types is not None:
      batch['token_type_ids'] = _scatter(size, cells, self.types[tokens])
    return batch

  def _predictions(
    self, examples: np.ndarray, offsets: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns and labels of all predictions, and how many of them each example has."""
    counts = self.dataset.num_predictions[examples]
    if self.dataset.target_starts is None:
      last = self.dataset.lengths[examples] - 1 if self.dataset.reads_last else 0
      return offsets + last, self.labels[examples], counts
    # Column i predicts token i + 1, and the last token predicts nothing.
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    within += np.repeat(self.dataset.target_starts[examples] - 1, counts)
    labels = self.ids[np.repeat(self.starts[examples], counts) + within + 1]
    return np.repeat(offsets, counts) + within, labels, counts


def _scatter(
  size: tuple[int, int],
  places: np.ndarray,
  values: np.ndarray,
  dtype: npt.DTypeLike = np.int32,
  fill: int = 0,
) -> np.ndarray:
  """An array of this size with the values at these places, counted row by row."""
  array = np.full(size[0] * size[1], fill, dtype)
  array[places] = values
  return array.reshape(size)
