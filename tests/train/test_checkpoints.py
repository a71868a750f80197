"""Checkpoints: which are kept, what each holds, and what is said of a damaged one."""

import contextlib
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from lora_jax import tree
from lora_jax.train import job
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
  checkpoints._manager.wait_until_finished()


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
  """Orbax writes it in a thread: of the dict itself it would write what came later."""
  changed, write = threading.Event(), ocp.JsonCheckpointHandler._save_fn

  async def late(self, value, directory):
    assert changed.wait(10)
    await write(self, value, directory)

  monkeypatch.setattr(ocp.JsonCheckpointHandler, '_save_fn', late)
  checkpoints, progress = opened(), {'sums': {'loss': 1}}
  if trainable_alone:
    checkpoints.save_trainable(1, {'w': np.zeros(3)}, progress, 0.5)
  else:
    checkpoints.save(state_at(1), progress)
  progress['sums']['loss'] = 2
  changed.set()
  checkpoints._manager.wait_until_finished()
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
  first._manager.wait_until_finished()
  later = opened()
  np.testing.assert_array_equal(later.restore_trainable(later.best_step())['w'], np.arange(3.0))
  with pytest.raises(ValueError, match='7 cannot be read as a checkpoint of this run'):
    later.restore(state_at(0))


def test_what_is_lost_or_damaged_is_said(opened):
  with pytest.raises(ValueError, match='has no checkpoint of an evaluation left'):
    opened().restore_best({})
  save_all(opened(), [0.5])
  shutil.rmtree(opened().folder / '1' / 'trainable')
  with pytest.raises(ValueError, match=r'1 cannot be read .*\n.*delete it: the run resumes'):
    opened().restore_best(state_at(0).trainable)


def test_a_run_saves_no_frozen_leaf(finished):
  workdir, result = finished
  work, trainable = job.load_run(workdir)
  assert tree.count(trainable) == result['parameters']['trainable']
  assert not set(tree.paths(trainable)) & set(tree.paths(work.frozen))
