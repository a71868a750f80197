"""Finished runs, a job of their config and an adapter, which tests only read."""

import pytest

from lora_jax.adapters import native
from lora_jax.data import tasks
from lora_jax.train import job, loop, run_adapter

FINISHED = {'train.epochs': 8, 'data.max_shapes': 2}
# Of the runs that are interrupted in one way or another.
BROKEN = {'train.epochs': 12, 'model.hidden_dropout': 0.1}


@pytest.fixture(scope='session')
def finished(tmp_path_factory, make_config):
  """A finished LoRA run and its result."""
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  return workdir, loop.train(make_config(**FINISHED), workdir)


@pytest.fixture(scope='session')
def whole(tmp_path_factory, make_config):
  """The directory of a run of `BROKEN` that was not interrupted."""
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  loop.train(make_config(**BROKEN), workdir)
  return workdir


@pytest.fixture(scope='session')
def work(make_config):
  """A job of the run's config."""
  return job.load(make_config())


@pytest.fixture(scope='session')
def saved(finished, tmp_path_factory):
  """The adapter of that run, of which layers are scanned, saved without its data."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tasks, 'load_task', None)
    found = run_adapter.from_run(finished[0])
  folder = tmp_path_factory.mktemp('adapter') / 'saved'
  native.save_adapter(folder, found)
  return folder
