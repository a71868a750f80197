"""ROUGE by hand."""

import pytest

from lora_jax.metrics.rouge import rouge


def test_words_are_stemmed_and_the_best_reference_counts():
  found = rouge(['Ann sold cars .', 'no'], [['Ann sells a car'], ['yes', 'no']])
  # ann, sold, car against ann, sell, a, car: 2 of 3 and 2 of 4; no bigram; a subsequence of 2.
  assert found['rouge_1'] == found['rouge_lcs'] == pytest.approx((4 / 7 + 1) / 2)
  assert found['rouge_2'] == 0.0
