"""Run directories: whose they are, what is read of them, and the signal that stops a run."""

import json

import pytest

from lora_jax.train import loop, rundir
from tests.train.conftest import FINISHED


def test_another_config_is_refused(finished, make_config):
  with pytest.raises(ValueError, match=r'optim\.lr: 0\.01 in the directory, 0\.5 given') as error:
    loop.train(make_config(**FINISHED | {'optim.lr': 0.5}), finished[0])
  assert str(finished[0]) in str(error.value)


def test_a_folder_of_other_files_is_refused(tmp_path, make_config):
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match=f'{tmp_path} holds other files'):
    loop.train(make_config(), tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_a_directory_becomes_a_runs_own_and_stays_that_of_its_config(tmp_path, make_config):
  folder, config = tmp_path / 'run', make_config()
  rundir.check(folder, config)  # There is none yet.
  rundir.begin(folder, config)
  assert rundir.read_config(folder).to_dict() == json.loads(config.to_json_best_effort())
  before = (folder / 'config.json').stat().st_mtime_ns
  rundir.begin(folder, config)
  assert (folder / 'config.json').stat().st_mtime_ns == before
  rundir.check(folder, config)
  with config.unlocked():
    config.sweep.width = 7  # How many runs are trained together changes none of them.
  rundir.check(folder, config)
  assert not rundir.is_run(folder)
  (folder / 'checkpoints').mkdir()
  assert rundir.is_run(folder)


def test_what_is_no_run_or_a_damaged_one_is_said(tmp_path):
  with pytest.raises(ValueError, match=f'{tmp_path} is not a run directory'):
    rundir.read_config(tmp_path)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match=r'config\.json: not valid JSON'):
    rundir.read_config(tmp_path)


def test_an_outcome_is_a_result_or_the_failure_in_its_place(tmp_path):
  assert rundir.read_result(tmp_path) is rundir.read_outcome(tmp_path) is None
  (tmp_path / 'result.json').write_text('{"steps": 3}')
  assert rundir.read_result(tmp_path) == rundir.read_outcome(tmp_path) == {'steps': 3}
  (tmp_path / rundir.FAILED).write_text('{"error": "nan"}')
  assert rundir.read_outcome(tmp_path) == {'error': 'nan'}


def test_differences_are_the_leaves_that_differ_by_their_keys():
  old = {'a': 1, 'b': {'c': 2, 'd': 3}, 'gone': {'x': 0}}
  new = {'a': 1, 'b': {'c': 2, 'd': 4}, 'new': 5}
  assert dict(rundir.differences(old, new)) == {
    'b.d': (3, 4),
    'gone': ({'x': 0}, None),
    'new': (None, 5),
  }
  rundir.check_same('they differ', old, old)
  with pytest.raises(ValueError, match=r'they differ:\n  b\.d: 3 in the directory, 4 given'):
    rundir.check_same('they differ', old, new)
