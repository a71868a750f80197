"""The contents of result.json, and what a number is obtained with."""

import os
import subprocess
from pathlib import Path

import pytest

from lora_jax.result_schema import RunResult
from lora_jax.train import mesh, result, setup
from lora_jax.train.record import Record


def test_the_hardware_is_named(finished):
  _, result = finished
  assert result['device'].endswith('x cpu')
  assert result['cpu'].startswith(f'{os.cpu_count()} x ')
  if 'model name' in (known := Path('/proc/cpuinfo').read_text()):  # Not on every architecture.
    assert f'model name\t: {result["cpu"].partition(" x ")[2]}' in known


@pytest.fixture(scope='module')
def record(work):
  """The record of a run of three evaluations, of which the second is the best."""
  devices = mesh.make_mesh(1)
  record = Record('run', work, setup.make_batches(work, devices), devices, 'abc+')
  record.progress.update(
    history=[
      {'step': step, record.metric: x, 'general/loss': 4 - x}
      for step, x in ((6, 0.5), (12, 0.9), (18, 0.7))
    ],
    start={'general/loss': 3.0},
    examples=120,
    tokens=900,
    padded_tokens=1000,
    seconds={'training': 3.0, 'compiling': 1.0},
  )
  return record


def test_a_result_has_the_fields_of_its_schema_and_rates_by_training_alone(record):
  found = result.make(record, {'scores': {}}, members=4, why='sooner')
  assert set(found) == set(RunResult.__annotations__) - {'diverged'}  # Which pages add.
  assert (found['best']['step'], found['last']['step'], found['steps']) == (12, 18, 18)
  assert (found['examples_per_second'], found['tokens_per_second']) == (40.0, 300.0)
  assert found['padding'] == pytest.approx(0.1)
  assert found['members'] == 4 and found['commit'] == 'abc+'
  assert found['config']['optim']['lr'] == 1e-2
  assert found['general_text'] == pytest.approx({'start': 3.0, 'best': 3.1, 'last': 3.3})
  record.progress['start'] = {}
  assert not {'generated', 'members_why', 'general_text'} & set(result.make(record))


def test_where_lower_is_better_the_lowest_is_the_best(record):
  task = record.work.task._replace(higher_is_better=False)
  lower = Record('run', record.work._replace(task=task), record.training, record.devices, '')
  lower.progress.update(record.progress)
  assert result.make(lower)['best']['step'] == 6


def test_the_commit_is_the_checkouts_and_says_whether_files_differ(monkeypatch, tmp_path):
  git = lambda *args: subprocess.run(
    ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', '-C', tmp_path, *args],
    check=True,
    capture_output=True,
    text=True,
  )
  monkeypatch.setattr(result, '__file__', str(tmp_path / 'result.py'))
  monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
  assert result.commit() == ''
  git('init')
  (tmp_path / 'result.py').write_text('1')
  git('add', '.')
  git('commit', '-m', 'x')
  head = git('rev-parse', 'HEAD').stdout.strip()
  assert result.commit() == head and len(head) == 40
  (tmp_path / 'result.py').write_text('2')
  assert result.commit() == f'{head}+'


def test_versions_are_of_the_libraries_that_a_number_may_depend_on():
  assert set(result.about()) == {'versions', 'commit'}
  assert result.versions()['jax'] and result.versions().keys() == set(result.VERSIONS)
