"""The record of a run, without a step: sums, due evaluations, the end."""

import numpy as np
import pytest

from lora_jax.train import job, mesh, setup
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
