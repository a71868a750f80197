"""Checkpoints: which are kept, what each holds, and what is said of a damaged one."""

import contextlib
import json
import math
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_jax import tree
from lora_jax.train import job, locks, saver, step_files
from lora_jax.train.checkpoints import Checkpoints
from lora_jax.train.step import TrainState, init_state


def state_at(step: int) -> TrainState:
  """A state whose leaves say its step."""
  state = init_state({'w': np.full((2, 3), step, np.float32)}, optax.adam(0.1), seed=step)
  return state._replace(step=jnp.int32(step))


@pytest.fixture
def opened(tmp_path):
  """`opened()`: the checkpoints of a folder, again and again as a later start has them."""
  with contextlib.ExitStack() as stack:
    yield lambda keep=2: stack.enter_context(contextlib.closing(Checkpoints(tmp_path, keep)))


def save_all(checkpoints, scores):
  """Saves a state at steps 1, 2, ..., with its score."""
  for step, score in enumerate(scores, 1):
    checkpoints.save(state_at(step), {'history': [step]}, score)
  checkpoints.wait()


def test_the_latest_few_and_the_best_are_kept(opened, tmp_path):
  save_all(opened(), [0.1, 0.9, 0.2, None, 0.9, 0.3])
  later = opened()
  assert (later.best_step(), later.last_step()) == (2, 6), 'of equal scores the earliest is best'
  assert {p.name for p in later.folder.iterdir()} == {'2', '5', '6'}
  np.testing.assert_array_equal(later.restore_best(state_at(0).trainable)['w'], np.full((2, 3), 2))


def test_all_of_a_state_comes_back_with_the_hosts_progress(opened):
  assert opened().restore(state_at(0)) is opened().last_progress() is None
  save_all(opened(), [0.5, None])
  found, progress = opened().restore(state_at(0))
  jax.tree.map(np.testing.assert_array_equal, found, state_at(2))
  assert jax.tree.structure(found) == jax.tree.structure(state_at(2))
  assert progress == opened().last_progress() == {'history': [2]}


@pytest.mark.parametrize('trainable_alone', [False, True])
def test_progress_is_saved_as_it_was_however_the_run_goes_on(opened, monkeypatch, trainable_alone):
  """It is written in a thread: of the dict itself what came later would be written."""
  changed, write = threading.Event(), step_files.write

  def late(*arguments):
    assert changed.wait(10)
    write(*arguments)

  monkeypatch.setattr(step_files, 'write', late)
  checkpoints, progress = opened(), {'sums': {'loss': 1}}
  if trainable_alone:
    checkpoints.save_trainable(1, {'w': np.zeros(3)}, progress, 0.5)
  else:
    checkpoints.save(state_at(1), progress)
  progress['sums']['loss'] = 2
  changed.set()
  checkpoints.wait()
  assert checkpoints.last_progress() == {'sums': {'loss': 1}}


def test_a_step_is_saved_once(opened):
  checkpoints = opened()
  save_all(checkpoints, [0.5])
  checkpoints.save(state_at(1), {'history': ['again']}, 0.9)
  checkpoints.save_trainable(1, {'w': np.zeros(3)}, {}, 0.9)
  assert opened().last_progress() == {'history': [1]}


def test_trainable_parameters_alone_are_evaluated_but_not_trained_on(opened):
  first = opened()
  first.save_trainable(7, {'w': np.arange(3.0)}, {'history': []}, 0.5)
  first.wait()
  later = opened()
  np.testing.assert_array_equal(later.restore_trainable(later.best_step())['w'], np.arange(3.0))
  with pytest.raises(ValueError, match='7 cannot be read as a checkpoint of this run'):
    later.restore(state_at(0))


def test_what_is_lost_is_said(opened):
  with pytest.raises(ValueError, match='has no checkpoint of an evaluation left'):
    opened().restore_best({})
  save_all(opened(), [0.5, 0.4])
  shutil.rmtree(opened().folder / '1')
  with pytest.raises(ValueError, match=r'1, the best checkpoint, is gone\. Remove result'):
    opened().restore_best(state_at(0).trainable)


def files_of(folder):
  """All files of a checkpoint that are read again, smallest names first."""
  later = (step_files.COMMITTED, '_CHECKPOINT_METADATA')
  found = [path for path in sorted(folder.rglob('*')) if path.is_file()]
  return [path for path in found if path.relative_to(folder).as_posix() not in later]


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


def truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize('damage', [flip, truncate, lambda path: path.unlink()])
def test_damage_of_any_file_is_found_named_and_passed_over(opened, caplog, damage):
  save_all(opened(keep=3), [0.5, 0.9, 0.3])
  folder = opened().folder
  whole = shutil.copytree(folder, folder.with_name('whole'))
  names = [path.relative_to(folder / '3') for path in files_of(folder / '3')]
  assert step_files.NAME in map(str, names) and len(names) > 12
  for name in names:
    damage(folder / '3' / name)
    caplog.clear()
    found, progress = opened().restore(state_at(0))
    jax.tree.map(np.testing.assert_array_equal, found, state_at(2))
    assert progress == {'history': [2]} and opened().steps() == [1, 2]
    (warning,) = caplog.messages
    assert str(folder / '3' / name) in warning and 'resumes from step 2' in warning
    shutil.rmtree(folder)
    shutil.copytree(whole, folder)


def test_files_that_no_start_reads_do_no_harm(opened, caplog):
  save_all(opened(), [0.5])
  for name in (step_files.COMMITTED, '_CHECKPOINT_METADATA'):
    (opened().folder / '1' / name).write_text('{')
  assert opened().restore(state_at(0))[1] == {'history': [1]} and not caplog.messages


def test_a_step_that_was_set_aside_is_saved_again(opened):
  save_all(opened(), [0.1, 0.2, 0.3])
  flip(files_of(opened().folder / '3')[0])
  checkpoints = opened()
  assert checkpoints.restore(state_at(0))[1] == {'history': [2]}
  checkpoints.save(state_at(3), {'history': ['again']}, 0.3)
  checkpoints.wait()
  assert opened().restore(state_at(0))[1] == {'history': ['again']}
  assert opened().best_step() == 3
  assert (checkpoints.folder / '3.set-aside').is_dir()


def test_a_run_whose_best_is_damaged_goes_back_to_before_it(opened, caplog):
  save_all(opened(keep=3), [0.5, 0.9, 0.3, 0.2])
  folder = opened().folder
  assert opened().steps() == [2, 3, 4], 'the first is needed by none'
  flip(folder / '2' / 'step.json')
  with pytest.raises(ValueError, match=r'2/step\.json is not what was written.*start the training'):
    opened().best_step()
  assert opened(keep=3).restore(state_at(0)) is None
  assert 'resumes from the start' in caplog.text and not opened().steps()
  assert opened().best_step() is None


def test_each_kept_checkpoint_has_the_best_of_its_time(opened):
  save_all(opened(), [0.5, 0.1, 0.9])
  assert opened().steps() == [1, 2, 3], 'of step 2 the best was step 1'
  flip(files_of(opened().folder / '3')[0])
  assert opened().restore(state_at(0))[1] == {'history': [2]}
  assert opened().best_step() == 1


def test_damaged_ones_alone_are_an_error_that_says_what_to_do(opened):
  save_all(opened(), [0.5, 0.6])
  for step in '12':
    flip(files_of(opened().folder / step)[0])
  with pytest.raises(ValueError, match=r'no whole checkpoint: .*/1/.*; .*/2/.*remove the folder'):
    opened().restore(state_at(0))
  assert opened().steps() == [1, 2], 'nothing is changed'


def test_a_young_run_whose_only_checkpoint_is_damaged_starts_again(opened, caplog):
  save_all(opened(), [0.5])
  flip(files_of(opened().folder / '1')[0])
  assert opened().restore(state_at(0)) is None
  assert 'Training resumes from the start; set aside as STEP.set-aside' in caplog.text
  save_all(opened(), [0.5])
  flip(files_of(opened().folder / '1')[0])
  with pytest.raises(ValueError, match=r'no whole checkpoint'):  # The second one in a row.
    opened().restore(state_at(0))


@pytest.mark.parametrize('score', [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_the_best(opened, score, caplog):
  save_all(opened(), [0.5, score, 0.4])
  assert opened().best_step() == 1
  assert f'the score of step 2 is {score}' in caplog.text


def test_a_checkpoint_of_an_older_version_is_read_with_a_warning(opened, caplog):
  save_all(opened(), [0.5, 0.6])
  for step, score in ((1, 0.5), (2, math.nan)):
    folder = opened().folder / str(step)
    (folder / 'step.json').unlink()
    for name, value in {'progress': {'old': step}, 'metrics': {'score': score}}.items():
      (folder / name).mkdir()
      (folder / name / 'metadata').write_text(json.dumps(value))
  assert opened().best_step() == 1
  assert opened().restore(state_at(0))[1] == {'old': 2}
  assert 'cannot be verified' in caplog.text
  for path in (opened().folder / '2/trainable').rglob('*'):  # One that cannot even be read.
    if path.is_file():
      path.write_bytes(b'')
  assert opened().restore(state_at(0))[1] == {'old': 1}
  assert opened().steps() == [1]


def test_only_an_owner_writes_and_tidies(opened, tmp_path):
  save_all(opened(), [0.5])
  unfinished = opened().folder / f'2{saver.UNFINISHED}'
  unfinished.mkdir()

  def refuse():
    raise locks.Lost('taken over')

  other = Checkpoints(tmp_path, check=refuse)
  assert other.best_step() == other.last_step() == 1 and other.last_progress()
  with pytest.raises(locks.Lost):
    other.save(state_at(2), {})
  assert unfinished.exists(), 'a reader removes nothing'
  opened().restore(state_at(0))
  assert not unfinished.exists()


def test_an_owner_that_is_lost_while_it_saves_gives_nothing_its_name(opened, tmp_path):
  calls = []

  def check():
    calls.append(None)
    if len(calls) > 1:
      raise locks.Lost('taken over')

  checkpoints = Checkpoints(tmp_path, check=check)
  checkpoints.save(state_at(1), {})
  with pytest.raises(locks.Lost):
    checkpoints.wait()
  assert opened().steps() == []


def test_a_run_saves_no_frozen_leaf(finished):
  workdir, result = finished
  work, trainable = job.load_run(workdir)
  assert tree.count(trainable) == result['parameters']['trainable']
  assert not set(tree.paths(trainable)) & set(tree.paths(work.frozen))
