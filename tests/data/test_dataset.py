"""Datasets, the tokens of a method around their inputs, and the limit of a request."""

import numpy as np
import pytest

from lora_jax.data.dataset import Dataset, Request, virtual_tokens, with_virtual


def ids(*values):
  return np.array(values, np.int32)


def test_a_context_is_put_between_and_the_target_follows():
  data = Dataset([ids(1, 2, 0, 5, 6), ids(3, 0, 7)], target_starts=ids(3, 2))
  found = with_virtual(data, 100, (2, 1))
  assert found.ids[0].tolist() == [100, 101, 1, 2, 0, 102, 5, 6]
  assert found.ids[1].tolist() == [100, 101, 3, 0, 102, 7]
  assert found.target_starts.tolist() == [6, 5]
  # There are as many targets as before.
  assert found.num_predictions.tolist() == data.num_predictions.tolist()
  assert found.ids[0].dtype == found.target_starts.dtype == np.int32


def test_the_first_token_of_an_encoder_stays_the_first():
  data = Dataset([ids(1, 2, 3, 4)], token_types=[ids(0, 0, 1, 1)], labels=ids(1))
  found = with_virtual(data, 100, (1, 2))
  assert found.ids[0].tolist() == [1, 100, 2, 3, 4, 101, 102]
  assert found.token_types[0].tolist() == [0, 0, 0, 1, 1, 1, 1]
  assert found.labels.tolist() == [1]


def test_the_last_token_of_a_decoder_stays_the_last():
  data = Dataset([ids(1, 2, 3)], labels=ids(1), reads_last=True)
  found = with_virtual(data, 100, (1, 2))
  assert found.ids[0].tolist() == [100, 1, 2, 101, 102, 3]
  assert found.reads_last


def test_no_tokens_change_nothing():
  data = Dataset([ids(1, 2)], labels=ids(0))
  assert with_virtual(data, 100, (0, 0)) is data
  prefix, infix = virtual_tokens(100, (2, 1))
  assert (prefix.tolist(), infix.tolist()) == ([100, 101], [102])


def test_parts_of_different_lengths_are_refused():
  with pytest.raises(ValueError, match='1 examples, but 2 labels'):
    Dataset(ids=[np.ones(3, np.int32)], labels=np.zeros(2, np.int32))
  with pytest.raises(ValueError, match='at least 1: no column predicts the first token'):
    Dataset(ids=[np.ones(3, np.int32)], target_starts=np.zeros(1, np.int32))


def test_a_limit_keeps_the_first_of_a_shuffle():
  kept = lambda **options: list(Request(tokenizer=None, **options).training_indices(8))
  assert kept() == kept(limit=8) == kept(limit=99) == list(range(8))
  assert kept(limit=5)[:3] == kept(limit=3) != kept(limit=3, seed=1)
  assert len(set(kept(limit=5))) == 5
