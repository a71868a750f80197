"""Evaluation: outputs of each example in the dataset's order, their metrics, and whole runs'."""

import types

import jax
import numpy as np
import pytest

from lora_jax.models.presets import INPUTS
from lora_jax.train import evaluate, job
from lora_jax.train.step import make_eval_step, make_outputs


@pytest.fixture(scope='module')
def evaluated(finished):
  """The report on the best checkpoint of the finished run."""
  return evaluate.evaluate_run(finished[0])


def test_best_and_last_are_kept(finished, evaluated):
  workdir, result = finished
  reports = {'best': evaluated, 'last': evaluate.evaluate_run(workdir, which='last')}
  for which, report in reports.items():
    for name, value in report['adapted'].items():
      np.testing.assert_allclose(value, result[which][name], rtol=1e-5, err_msg=name)


def test_merged_model_evaluates_the_same(evaluated):
  assert 0 < evaluated['largest_logit_difference'] < 1e-4
  assert evaluated['merged']['dev/accuracy'] == evaluated['adapted']['dev/accuracy']


def test_a_run_is_the_base_of_another(finished, evaluated, make_config):
  """LoRA on top of a merged run begins at that run's outputs."""
  config = make_config('full', **{'model.name': str(finished[0])})
  work = job.load(config)
  step = make_eval_step(work.apply, 'classification')
  outputs_of = lambda batch: step(work.frozen, work.trainable, batch)
  computed = evaluate.compute(outputs_of, evaluate.layouts(work))
  report = dict(evaluate.evaluate(work.task, computed))
  np.testing.assert_allclose(report['dev/loss'], evaluated['adapted']['dev/loss'], rtol=1e-4)


def computed_of(*rows):
  """Outputs of batches of two examples each: (index, losses, predictions, weights)."""
  return [
    (
      {'index': np.array([index]), 'weights': np.array([weights], np.float32)},
      {'loss': np.array([loss], np.float32), 'prediction': np.array([predictions])},
    )
    for index, loss, predictions, weights in rows
  ]


TWO = computed_of(([2, 0], [1.0, 3.0], [7, 5], [1, 1]), ([1, -1], [5.0, 9.0], [6, 9], [1, 0]))


def test_outputs_are_in_the_datasets_order_and_what_holds_nothing_counts_nothing():
  outputs, loss, weight = evaluate.collect(TWO, 3)
  assert outputs['prediction'].tolist() == [5, 6, 7]
  assert (loss, weight) == (9.0, 3.0)


def task_of(kind, score=None):
  data = types.SimpleNamespace(ids=[0, 0, 0], labels=np.array([5, 6, 0]))
  return types.SimpleNamespace(name='toy', kind=kind, evals={'dev': data}, score=score)


def test_metrics_are_of_the_labels_or_of_the_loss_alone():
  accuracy = lambda labels, found: {'accuracy': (labels == found).mean()}
  found = dict(evaluate.evaluate(task_of('classification', accuracy), {'dev': TWO}))
  assert found == {'dev/loss': 3.0, 'dev/accuracy': pytest.approx(2 / 3)}
  found = dict(evaluate.evaluate(task_of('lm'), {'dev': TWO}))
  assert found == {'dev/loss': 3.0, 'dev/perplexity': pytest.approx(np.exp(3))}
  with pytest.raises(ValueError, match='toy dev: there are no labels'):
    dict(evaluate.evaluate(task_of('classification'), {'dev': TWO}))


@pytest.mark.parametrize('kind', ['classification', 'regression', 'lm'])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_counted_and_named(kind, value):
  bad = computed_of(([2, 0], [value, 3.0], [7, 5], [1, 1]), ([1, -1], [5.0, value], [6, 9], [1, 0]))
  score = lambda labels, found: {'accuracy': 1.0}
  message = "dev: the model's outputs are not finite for 1 of 3 examples"
  with pytest.raises(FloatingPointError, match=message):
    dict(evaluate.evaluate(task_of(kind, score), {'dev': bad}))


def test_a_perplexity_beyond_the_largest_float_is_infinite_and_not_cut():
  assert evaluate.perplexity(3.0) == np.exp(3.0)
  assert evaluate.perplexity(720.0) == np.inf


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('kind', ['classification', 'regression'])
def test_any_logit_that_is_not_finite_shows_in_the_outputs(kind, value):
  """Also one of a class that is neither the label nor predicted."""
  logits = np.array([[[1.0, value]], [[1.0, 2.0]]], np.float32)[..., :: -1 if kind[0] == 'r' else 1]
  outputs = make_outputs(lambda *_, **__: logits, kind)
  batch = {name: np.zeros((2, 1), np.int32) for name in ('labels', *INPUTS)}
  found = outputs({}, {}, batch)
  finite = np.all([np.isfinite(x) for x in found.values()], axis=0)
  assert finite.tolist() == [[False], [True]]


def test_a_split_without_public_labels_is_refused_before_anything_is_read(finished, monkeypatch):
  monkeypatch.setattr(job, 'load_run', None)
  with pytest.raises(ValueError, match=r'sst2 test: .*not public.*Splits with labels: train, dev'):
    evaluate.evaluate_run(finished[0], splits=['test'])


def test_evaluating_a_checkpoint_that_is_not_finite_is_an_error(finished, monkeypatch):
  read = job.read_trainable
  spoiled = lambda *args: (1, jax.tree.map(lambda x: x * np.nan, read(*args)[1]))
  monkeypatch.setattr(job, 'read_trainable', spoiled)
  with pytest.raises(FloatingPointError, match=r"dev: the model's outputs are not .* 21 of 21"):
    evaluate.evaluate_run(finished[0])


def test_a_member_has_its_own_rows_of_the_stacked_outputs():
  batch, _ = TWO[0]
  stacked = np.arange(6).reshape(3, 1, 2)
  found = evaluate.of_member({'dev': [(batch, {'loss': stacked})]}, 1, 3)
  ((same, values),) = found['dev']
  assert same is batch and values['loss'].tolist() == [[2, 3]]
