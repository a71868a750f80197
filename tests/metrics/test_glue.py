import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from lora_jax.metrics import glue

ORACLES = {
  'accuracy': sklearn.metrics.accuracy_score,
  'f1': sklearn.metrics.f1_score,
  'macro_f1': lambda x, y: sklearn.metrics.f1_score(x, y, average='macro'),
  'matthews': sklearn.metrics.matthews_corrcoef,
  'pearson': lambda x, y: scipy.stats.pearsonr(x, y).statistic,
  'spearman': lambda x, y: scipy.stats.spearmanr(x, y).statistic,
}


def test_every_metric_has_an_oracle():
  assert set(ORACLES) == set(glue.METRICS)


@pytest.mark.parametrize('name', ORACLES)
@pytest.mark.parametrize('seed', range(5))
def test_equals_scipy_and_scikit_learn(name, seed):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 2, 50)
  predictions = np.where(rng.random(50) < 0.6, labels, 1 - labels)
  if name in ('pearson', 'spearman'):  # with ties
    labels = rng.integers(0, 25, 50) / 5
    predictions = np.round(labels + rng.normal(size=50), 1)
  score = glue.score([name], labels, predictions)
  assert score == {
    name: pytest.approx(ORACLES[name](labels, predictions), abs=1e-12),
    'constant': 0.0,
  }


@pytest.mark.parametrize('name', ['matthews', 'macro_f1'])
def test_scores_of_three_classes(name):
  rng = np.random.default_rng(0)
  labels, predictions = rng.integers(0, 3, (2, 60))
  expected = ORACLES[name](labels, predictions)
  assert glue.METRICS[name](labels, predictions) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
  'name, labels, value',
  [
    ('matthews', [0, 1, 1, 0], 0.0),
    ('pearson', [0.0, 1.0, 2.5, 5.0], 0.0),
    ('spearman', [0.0, 1.0, 2.5, 5.0], 0.0),
    ('accuracy', [0, 1, 1, 1], 0.75),
    ('f1', [0, 0, 0, 0], 0.0),
  ],
)
def test_a_constant_prediction_is_named_and_warns_of_nothing(name, labels, value):
  constant = np.full(4, 0 if name == 'f1' else 1)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert glue.score([name], np.array(labels), constant) == {name: value, 'constant': 1.0}


def test_float32_values_do_not_lose_the_correlation():
  labels = np.linspace(0, 5, 1000, dtype=np.float32)
  predictions = labels * 1e-4 + np.float32(1000)
  expected = scipy.stats.pearsonr(labels.astype(float), predictions.astype(float)).statistic
  score = glue.score(['pearson'], labels, predictions)
  assert score['pearson'] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
  'names, labels, predictions, message',
  [
    (['mathews'], [0, 1], [0, 1], 'matthews'),
    (['accuracy'], [0, 1], [[0.1, 0.9], [0.9, 0.1]], r'labels of shape \(2,\) and .*\(2, 2\)'),
    (['accuracy'], [], [], r'\(0,\)'),
    (['pearson'], [0.0, 1.0, 2.0], [1.0, np.nan, 2.0], 'prediction 1 of 3 is nan'),
  ],
)
def test_errors_say_what_was_found(names, labels, predictions, message):
  with pytest.raises(ValueError, match=message):
    glue.score(names, np.array(labels), np.array(predictions))
