"""Batches that a thread places ahead of the step."""

import threading

import jax
import numpy as np
import pytest

from lora_jax.train import mesh
from lora_jax.train.prefetch import prefetch


def rows():
  return mesh.rows(mesh.make_mesh(1))


def test_batches_come_in_their_order_and_at_most_two_wait():
  drawn = []

  def batches():
    for i in range(6):
      drawn.append(i)
      yield {'x': np.full((1, 2), i)}

  stream = prefetch(batches(), rows(), ahead=2)
  first = next(stream)
  assert isinstance(first['x'], jax.Array) and int(first['x'][0, 0]) == 0
  assert len(drawn) <= 4  # The one in hand, two that wait, and one that is being put.
  assert [int(batch['x'][0, 0]) for batch in stream] == [1, 2, 3, 4, 5]


def test_an_error_is_raised_where_its_batch_would_be():
  def batches():
    yield {'x': np.zeros((1, 2))}
    raise ValueError('line 7 is broken')

  stream = prefetch(batches(), rows())
  next(stream)
  with pytest.raises(ValueError, match='line 7 is broken'):
    next(stream)


def test_closing_ends_the_thread():
  def batches():
    while True:
      yield {'x': np.zeros((1, 2))}

  before = threading.active_count()
  stream = prefetch(batches(), rows())
  next(stream)
  assert threading.active_count() == before + 1
  (thread,) = (x for x in threading.enumerate() if x.name == 'prefetch')
  stream.close()
  thread.join(5)
  assert not thread.is_alive()
