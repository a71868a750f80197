"""ROUGE by hand."""

import pytest

from lora_jax.metrics import text
from lora_jax.metrics.rouge import rouge


def test_words_are_stemmed_and_the_best_reference_counts():
  found = rouge(['Ann sold cars .', 'no'], [['Ann sells a car'], ['yes', 'no']])
  # ann, sold, car against ann, sell, a, car: 2 of 3 and 2 of 4; no bigram; a subsequence of 2.
  assert found['rouge_1'] == found['rouge_lcs'] == pytest.approx((4 / 7 + 1) / 2)
  assert found['rouge_2'] == 0.0


def test_words_of_any_script_count_where_the_texts_may_be_in_any_language():
  texts = ['Привет, мир', 'नमस्ते दुनिया', 'Ann sold the Mädchen 2 cars .']
  assert rouge(texts[:1], [texts[:1]])['rouge_1'] == 0.0  # As `rouge-score` has it.
  for one in texts:
    assert set(rouge([one], [[one]], any_script=True).values()) == {1.0}
  found = rouge(['Mädchen laufen'], [['Mädels laufen']], any_script=True)
  assert found['rouge_1'] == 0.5  # Of the library's words it is 2 of 3: `m` is one.
  english = ['Ann sold cars_now .'], [['Ann sells a car now']]
  assert rouge(*english) == rouge(*english, any_script=True)
  report = text.score('own', texts[:1], [texts[:1]], ['rouge_2'])
  assert report.scores == {'rouge_2': 1.0} and 'any script' in report.settings['rouge_2']
