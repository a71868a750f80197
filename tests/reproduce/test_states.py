"""The state of a run is read from its folder."""

import json

import pytest

from configs import e2e
from lora_jax.reproduce import states
from lora_jax.train import locks, rundir
from tests.reproduce.toys import finish

CONFIG = e2e.get_config('tiny=true')


def state(folder, of_sweep=False):
  return states.of_run(folder, CONFIG, of_sweep=of_sweep)


def test_nothing_interrupted_finished(tmp_path):
  assert state(tmp_path / 'a') == states.State(False, 'to run')
  for step in (8, 16):
    (tmp_path / f'a/checkpoints/{step}').mkdir(parents=True)
  assert state(tmp_path / 'a').what == 'interrupted at step 16'
  finish(tmp_path / 'b', CONFIG, seconds=30.0)
  assert state(tmp_path / 'b') == states.State(True, 'finished', 30.0)
  (tmp_path / 'b/result.json').write_text('{')  # Damaged: it is trained to its end again.
  assert not state(tmp_path / 'b').is_finished


def test_a_run_that_diverged_is_finished(tmp_path):
  folder = tmp_path / 'a'
  folder.mkdir()
  (folder / rundir.FAILED).write_text(json.dumps({'error': 'loss is nan at step 3.'}))
  assert state(folder) == states.State(True, 'diverged: loss is nan at step 3.')


def test_a_run_of_a_sweep_is_saved_with_its_group(tmp_path):
  (tmp_path / 'groups/1f/checkpoints/24').mkdir(parents=True)
  assert state(tmp_path / 'seed=0', of_sweep=True).what == 'interrupted at step 24'
  assert state(tmp_path / 'seed=0').what == 'to run'


def test_a_run_that_a_process_has_names_it(tmp_path):
  with locks.Locks(tmp_path / 'a/locks') as owner:
    assert owner.take('run')
    found = state(tmp_path / 'a')
  assert found.what.startswith('running (process') and found.owner and not found.is_finished
  assert state(tmp_path / 'a').what == 'to run'


def test_a_run_of_other_settings_is_not_taken_for_this_one(tmp_path):
  other = e2e.get_config('tiny=true,method=full')
  finish(tmp_path / 'a', other)
  with pytest.raises(ValueError, match=r'holds a run of another config[\s\S]*method.name'):
    state(tmp_path / 'a')


def test_a_measurement_is_finished_by_its_file(tmp_path):
  assert not states.of_measurement(tmp_path).is_finished
  (tmp_path / 'analysis.json').touch()
  assert states.of_measurement(tmp_path).is_finished
