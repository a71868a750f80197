"""The arrays of a batch, written out, and the rows of a host shard."""

import numpy as np

from lora_jax.data.dataset import Dataset
from lora_jax.data.layout import HostShard, Writer
from lora_jax.data.shapes import Shape


def ids(*values):
  return np.array(values, np.int32)


def test_a_language_models_batch_is_as_written_here():
  data = Dataset([ids(1, 2, 3), ids(4, 5, 6, 7), ids(8, 9)], target_starts=ids(1, 3, 1))
  batch = Writer(data).write(Shape(2, 6, 3), ids(0, 1, 0), ids(0, 1, 2))
  expected = {
    'input_ids': [[1, 2, 3, 8, 9, 0], [4, 5, 6, 7, 0, 0]],
    'segment_ids': [[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]],
    'position_ids': [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 0, 0]],
    'prediction_positions': [[0, 1, 3], [2, 0, 0]],
    'labels': [[2, 3, 9], [7, 0, 0]],
    'weights': [[1, 1, 1], [1, 0, 0]],
    'index': [[0, 0, 2], [1, -1, -1]],
  }
  assert {name: array.tolist() for name, array in batch.items()} == expected


def test_an_encoders_batch_predicts_at_the_first_token():
  data = Dataset([ids(1, 2), ids(3)], token_types=[ids(0, 1), ids(0)], labels=np.float32([0.5, 2]))
  batch = Writer(data).write(Shape(1, 4, 2), ids(0, 0), ids(1, 0))
  assert batch['input_ids'].tolist() == [[3, 1, 2, 0]]
  assert batch['token_type_ids'].tolist() == [[0, 0, 1, 0]]
  assert batch['prediction_positions'].tolist() == [[0, 1]]
  assert batch['labels'].tolist() == [[2, 0.5]] and batch['labels'].dtype == np.float32


def test_a_decoders_batch_predicts_at_the_last_token():
  data = Dataset([ids(1, 2), ids(3, 4, 5)], labels=ids(0, 1), reads_last=True)
  batch = Writer(data).write(Shape(1, 6, 2), ids(0, 0), ids(1, 0))
  assert batch['input_ids'].tolist() == [[3, 4, 5, 1, 2, 0]]
  assert batch['prediction_positions'].tolist() == [[2, 4]]
  assert batch['labels'].tolist() == [[1, 0]]
  taken = Writer(data.take([1])).write(Shape(1, 3, 1), ids(0), ids(0))
  assert taken['prediction_positions'].tolist() == [[2]]


def test_rows_of_other_hosts_are_elsewhere():
  shape, rows = HostShard(4, (1, 3)).of(Shape(8, 16, 1), ids(0, 2, 3, 6, 7, -1))
  assert shape == Shape(4, 16, 1)
  assert rows.tolist() == [-1, 0, 1, 2, 3, -1]
