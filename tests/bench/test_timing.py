"""Timing in turn, and its table."""

import pytest

from lora_jax.bench import timing


def test_variants_take_turns_and_the_first_round_is_not_counted():
  calls = []

  def variant(name, seconds):
    def measure():
      calls.append(name)
      return seconds.pop(0)

    return measure

  variants = {'a': variant('a', [100.0, 1.0, 3.0, 2.0]), 'b': variant('b', [100.0, 4.0, 4.0, 9.0])}
  assert timing.in_turn(variants, rounds=3) == {'a': 2.0, 'b': 4.0}
  assert calls == ['a', 'b'] * 4


def test_a_table_has_a_row_for_each_variant_and_says_what_it_means():
  rows = {'lora': {'seconds': 0.5}, 'full': {'seconds': 1.25, 'bytes': 2.0}}
  text = timing.table('method', timing.Measured(rows, 'What it means.', {'cudnn': 'no GPU'}))
  assert [line.split() for line in text.splitlines()] == [
    ['method', 'seconds', 'bytes'],
    ['lora', '0.5', '-'],
    ['full', '1.25', '2'],
    ['cudnn:', 'skipped:', 'no', 'GPU'],
    ['What', 'it', 'means.'],
  ]


def test_a_batch_is_named_by_its_model_rows_and_length():
  assert timing.parse_shape('roberta-base:32x128') == ('roberta-base', 32, 128)
  with pytest.raises(ValueError, match=r"--shapes has 'minilm:8'; expected MODEL:ROWSxLENGTH"):
    timing.parse_shape('minilm:8')
