"""Every metric of a scoring is described and computed."""

import pytest

from lora_jax.metrics import text, text_metrics


def test_each_metric_is_described_and_each_description_used():
  used = {name for names in text.METRICS.values() for name in names}
  assert used == set(text_metrics.ABOUT)
  assert {name for name in used if text_metrics.ABOUT[name].java} == {'meteor', 'rouge_l', 'cider'}


@pytest.mark.parametrize('scoring', text.SCORINGS)
def test_each_metric_without_java_is_computed(scoring):
  names = [name for name in text.METRICS[scoring] if not text_metrics.ABOUT[name].java]
  reference = 'SELECT "a" FROM table' if scoring == 'wikisql' else 'one two three four five'
  scores, unavailable, version = text_metrics.compute(
    scoring, names, [reference], [[reference]], [[reference]]
  )
  assert list(scores) and set(scores) == set(names) and (unavailable, version) == ({}, '')
  assert all(value == (name == 'ter') * 0 or value > 0.99 for name, value in scores.items())


def test_summaries_and_labels_name_their_libraries():
  report = text.score('samsum', ['Ann sold cars .'], [['Ann sells a car']])
  assert list(report.versions) == ['rouge-score']
  labels = text.score('mnli_text', ['Neutral', 'entailment'], [['neutral'], ['neutral']])
  assert labels.scores == {'accuracy': 0.5} and labels.versions == {}
