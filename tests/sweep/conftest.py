"""A finished sweep, which tests only read."""

import pytest

from lora_jax.sweep import grouping
from lora_jax.sweep import train as train_sweep
from tests.sweep.runs import BASE, RUNS


@pytest.fixture(scope='session')
def swept(tmp_path_factory, make_config):
  """A finished sweep: its folder, its members, what `train` returned."""
  folder = tmp_path_factory.mktemp('sweep') / 'all'
  config = make_config(**BASE, **{'model.hidden_dropout': 0.1})
  return folder, grouping.members(config, RUNS), train_sweep(config, RUNS, folder)
