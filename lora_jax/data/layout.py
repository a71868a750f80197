"""The arrays of a batch: R rows, L columns and E prediction positions per row.

  input_ids, segment_ids, position_ids  int32 [R, L]; segment 0 is padding, k the k-th example of
                                        the row, whose positions begin at 0
  token_type_ids                        int32 [R, L]; encoders only
  prediction_positions                  [R, E]; the columns whose output is wanted
  labels, weights, index                [R, E]; what that output should be, 1 or 0 for used or not,
                                        and the example it belongs to or -1

Everything is int32, but `weights` and the labels of a regression, which are float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lora_jax.data.dataset import Dataset
from lora_jax.data.packing import Shape

Batch = dict[str, np.ndarray]


class HostShard(NamedTuple):
  """The rows of each batch that are laid out here: some of its equal parts, in their order.

  Attributes:
    parts: number of parts; it divides the rows.
    held: those that are laid out.
  """

  parts: int = 1
  held: tuple[int, ...] = (0,)

  def of(self, shape: Shape, rows: np.ndarray) -> tuple[Shape, np.ndarray]:
    """The shape of those rows, and where examples in `rows` lie among them; -1 for elsewhere."""
    size = shape.rows // self.parts
    place = np.full(self.parts, -1)
    place[list(self.held)] = np.arange(len(self.held))
    part, row = np.divmod(rows, size)
    here = (rows >= 0) & (place[part] >= 0)
    return shape._replace(rows=size * len(self.held)), np.where(here, place[part] * size + row, -1)


ALL = HostShard()  # One part, held.


class Writer:
  """Lays examples out as arrays, with no loop over examples."""

  def __init__(self, dataset: Dataset):
    self.dataset = dataset
    self.starts = np.cumsum(dataset.lengths) - dataset.lengths
    self.ids = np.concatenate(dataset.ids).astype(np.int32)
    types = dataset.token_types
    self.types = None if types is None else np.concatenate(types).astype(np.int32)
    self.labels = dataset.labels
    if self.labels is None:
      self.labels = np.zeros(len(dataset), np.int32)

  def write(self, shape: Shape, rows: np.ndarray, examples: np.ndarray) -> Batch:
    """A batch of these examples in these rows; entries below 0 are none."""
    data = self.dataset
    order = np.argsort(rows, kind='stable')[np.sum(rows < 0) :]
    rows, examples = rows[order], examples[order]
    lengths, num_predictions = data.lengths[examples], data.num_predictions[examples]
    first = np.searchsorted(rows, rows)  # the first example of each example's row
    before = np.cumsum(lengths) - lengths
    offsets = before - before[first]
    positions = np.arange(lengths.sum()) - np.repeat(before, lengths)
    cells = np.repeat(rows * shape.length + offsets, lengths) + positions
    tokens = np.repeat(self.starts[examples], lengths) + positions
    segments = np.repeat(np.arange(len(rows)) - first + 1, lengths)
    size = (shape.rows, shape.length)
    batch = {
      'input_ids': _scatter(size, cells, self.ids[tokens]),
      'segment_ids': _scatter(size, cells, segments),
      'position_ids': _scatter(size, cells, positions),
    }
    if self.types is not None:
      batch['token_type_ids'] = _scatter(size, cells, self.types[tokens])

    before = np.cumsum(num_predictions) - num_predictions
    slots = np.arange(num_predictions.sum()) + np.repeat(
      rows * shape.num_predictions - before[first], num_predictions
    )
    size = (shape.rows, shape.num_predictions)
    columns, labels = offsets, self.labels[examples]
    if data.target_starts is not None:
      # Column i predicts token i + 1, and the last token predicts nothing.
      within = np.arange(num_predictions.sum()) - np.repeat(before, num_predictions)
      within += np.repeat(data.target_starts[examples] - 1, num_predictions)
      columns = np.repeat(offsets, num_predictions) + within
      labels = self.ids[np.repeat(self.starts[examples], num_predictions) + within + 1]
    return batch | {
      'prediction_positions': _scatter(size, slots, columns),
      'labels': _scatter(size, slots, labels, labels.dtype),
      'weights': _scatter(size, slots, np.ones(len(slots)), np.float32),
      'index': _scatter(size, slots, np.repeat(examples, num_predictions), fill=-1),
    }


def _scatter(
  size: tuple[int, int], cells: np.ndarray, values: np.ndarray, dtype=np.int32, fill: int = 0
) -> np.ndarray:
  array = np.full(size[0] * size[1], fill, dtype)
  array[cells] = values
  return array.reshape(size)
