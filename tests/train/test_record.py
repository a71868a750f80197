"""The record of a run, without a step: sums, due evaluations, the best one, the end."""

import json
import logging

import jax
import numpy as np
import pytest

from lora_jax.result_schema import Diverged
from lora_jax.sweep import stacked
from lora_jax.sweep import train as train_sweep
from lora_jax.train import checkpoints, job, loop, mesh, setup, single
from lora_jax.train.record import Record


@pytest.fixture(scope='module')
def work(make_config):
  return job.load(make_config())


@pytest.fixture
def record(work):
  devices = mesh.make_mesh(1)
  return Record('run', work, setup.make_batches(work, devices), devices, 'commit')


def metrics(*losses):
  ones = np.ones(len(losses))
  counts = {'examples': 8 * ones, 'tokens': 50 * ones, 'padded_tokens': 64 * ones}
  return {'loss': np.array(losses), 'grad_norm': ones, **counts}


def test_metrics_of_dispatches_are_summed(record):
  record.add(0, metrics(1.0, 2.0))
  record.add(2, metrics(6.0))
  progress = record.progress
  assert progress['loss_sum'] == 9.0 and progress['losses'] == 3
  assert (progress['examples'], progress['tokens'], progress['padded_tokens']) == (24, 150, 192)
  record.add(record.total_steps, metrics(5.0))  # A longer member's step: this run is over.
  assert progress['losses'] == 3


def test_a_metric_that_is_not_finite_ends_the_sums_and_names_its_step(record):
  record.add(0, metrics(1.0))
  record.add(1, metrics(1.0, float('nan')))
  assert 'loss is nan at step 3 ' in record.error and 'Lower config.optim.lr' in record.error
  record.add(3, metrics(1.0))
  assert record.progress['losses'] == 1
  assert record.is_over(4) and not record.evaluate(4, {})


def test_evaluations_are_due_at_the_ends_of_epochs(record):
  steps = record.training.steps_per_epoch
  due = [last for last in range(1, record.total_steps + 1) if record.is_due(last - 1, last)]
  assert due == [steps, 2 * steps] == [steps, record.total_steps]
  assert record.is_due(steps - 2, steps + 1)  # A dispatch of several updates that crosses it.
  assert not record.is_over(steps) and record.is_over(2 * steps)
  record.is_live = False
  assert not record.is_due(0, steps) and not record.is_over(2 * steps)


def outputs(record, loss=0.5, bad=()):
  """The outputs of the dev split, all of class 1; those of the examples `bad` are NaN."""
  size = len(record.work.task.evals['dev'])
  losses = np.where(np.isin(np.arange(size), bad), np.nan, loss).astype(np.float32)
  batch = {'index': np.arange(size)[None], 'weights': np.ones((1, size), np.float32)}
  return {'dev': [(batch, {'loss': losses[None], 'prediction': np.ones((1, size), int)})]}


def test_an_evaluation_that_is_not_finite_is_an_error_and_no_entry(record):
  record.add(0, metrics(1.0))
  assert record.evaluate(6, outputs(record))
  record.add(6, metrics(1.0))
  assert not record.evaluate(12, outputs(record, bad=(3, 7)))
  assert "dev: the model's outputs are not finite for 2 of 21 examples" in record.error
  assert 'at the evaluation of step 12. Lower config.optim.lr' in record.error
  assert [entry['step'] for entry in record.history] == [6]


def test_a_score_that_is_not_a_number_is_never_the_best(record, caplog):
  scores = iter([float('nan'), 0.4, float('nan'), 0.6, float('inf'), float('nan')])
  record.work = record.work._replace(
    task=record.work.task._replace(score=lambda *_: {'accuracy': next(scores)})
  )
  found = []
  with caplog.at_level(logging.WARNING):
    for step in range(1, 7):
      record.add(step - 1, metrics(1.0))
      found.append(record.evaluate(step, outputs(record)))
  assert found == [False, True, False, True, False, False]
  assert record.best['step'] == 4 and record.last_score is None and record.error == ''
  assert 'dev/accuracy is nan at step 3: it does not count' in caplog.text


def test_a_run_without_a_score_at_its_end_has_failed(record):
  record.work = record.work._replace(
    task=record.work.task._replace(score=lambda *_: {'accuracy': float('nan')})
  )
  record.add(0, metrics(1.0))
  assert not record.evaluate(record.total_steps, outputs(record)) and record.best is None
  assert 'dev/accuracy is not finite at any evaluation' in record.error


def spoil(monkeypatch, engine, at, member=None):
  """Makes the outputs of an engine NaN at the evaluation of step `at`, of all members or one."""
  whole = engine.outputs

  def spoiled(self, batch):
    found = whole(self, batch)
    if self.done != at:
      return found
    names = [record.name for record in self.members]
    where = slice(None) if member is None else names.index(member)
    return {**found, 'loss': found['loss'].at[where].set(jax.numpy.nan)}

  monkeypatch.setattr(engine, 'outputs', spoiled)


def test_a_run_stops_at_an_evaluation_that_is_not_finite(monkeypatch, make_config, tmp_path):
  """The next start says so at once; it goes on when what the run left of that is removed."""
  config, folder = make_config(), tmp_path / 'run'
  with monkeypatch.context() as patch:
    spoil(patch, single.Single, at=12)
    with pytest.raises(FloatingPointError, match=r'dev: .* for 21 of 21 .* step 12.*step 6 stays'):
      loop.train(config, folder)
  assert not (folder / 'result.json').exists()
  saved = checkpoints.Checkpoints(folder)
  assert saved.best_step() == saved.last_step() == 6
  saved.close()
  with pytest.raises(FloatingPointError, match=r'diverged: dev: .* step 12.*remove .*failed\.json'):
    loop.train(config, folder)
  (folder / 'failed.json').unlink()
  assert loop.train(config, folder)['steps'] == 12


def test_in_a_sweep_only_the_member_fails(monkeypatch, make_config, tmp_path):
  spoil(monkeypatch, stacked.Stacked, at=12, member='lr=0.01')
  runs = [{'optim.lr': rate} for rate in (1e-2, 1e-3)]
  found = train_sweep(make_config(**{'sweep.width': 2}), runs, tmp_path / 'sweep')
  assert "dev: the model's outputs are not finite for 21 of 21" in found['lr=0.01']['error']
  assert found['lr=0.001']['steps'] == 12 and found['lr=0.001']['best']['dev/accuracy'] > 0
  failed = json.loads((tmp_path / 'sweep/lr=0.01/failed.json').read_text())
  assert [entry['step'] for entry in failed['history']] == [6]
  assert set(failed) == set(Diverged.__annotations__) - {'versions'}
  assert (failed['config']['optim']['lr'], failed['metric']) == (0.01, 'dev/accuracy')


def test_a_score_of_nan_is_not_the_best_on_disk(monkeypatch, make_config, tmp_path):
  """Single and stacked: the score of the last evaluation is NaN, where the best was the first."""
  load = job.load_task

  def loaded(*args, **kwargs):
    task = load(*args, **kwargs)
    calls = iter(range(100))
    score = lambda *_: {'accuracy': 0.5 if next(calls) < width else float('nan')}
    return task._replace(score=score)

  monkeypatch.setattr(job, 'load_task', loaded)
  for width, folder in ((1, 'run'), (2, 'sweep/lr=0.01')):
    if width == 1:
      loop.train(make_config(), tmp_path / folder)
    else:
      runs = [{'optim.lr': rate} for rate in (1e-2, 1e-3)]
      train_sweep(make_config(**{'sweep.width': 2}), runs, tmp_path / 'sweep')
    result = json.loads((tmp_path / folder / 'result.json').read_text())
    saved = checkpoints.Checkpoints(tmp_path / folder)
    assert (result['best']['step'], saved.best_step(), saved.last_step()) == (6, 6, 12), folder
    assert result['last']['dev/accuracy'] == 'nan'
    saved.close()
