"""The engine of one run: where it resumes, when it stops, what it leaves."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from unittest import mock

import jax
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.train import locks, loop, mesh, setup, single, step_files
from lora_jax.train.checkpoints import Checkpoints
from lora_jax.train.record import Record
from lora_jax.train.writers import Writer
from tests.train.conftest import BROKEN
from tests.train.runs import assert_same_run


def test_sigterm_saves_and_the_next_start_ends_the_same(tmp_path, whole, make_config):
  """Interrupted inside an epoch, at a step that no schedule would save."""
  config = make_config(**BROKEN)
  interrupted = tmp_path / 'interrupted'

  def interrupt():
    while not (interrupted / 'metrics.jsonl').exists() or (
      (interrupted / 'metrics.jsonl').read_text().count('\n') < 3
    ):
      time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=interrupt, daemon=True).start()
  with pytest.raises(SystemExit) as stopped:
    loop.train(config, interrupted)
  assert stopped.value.code == 143
  assert not (interrupted / 'result.json').exists()
  loop.train(config, interrupted)
  assert_same_run(whole, interrupted)


def test_a_damaged_checkpoint_is_passed_over_and_the_run_ends_the_same(
  tmp_path, whole, make_config, caplog
):
  folder = shutil.copytree(whole, tmp_path / 'run')
  last = Checkpoints(folder).last_step()
  data = max((folder / f'checkpoints/{last}').rglob('*'), key=lambda path: path.stat().st_size)
  data.write_bytes(data.read_bytes()[:-3] + b'xyz')
  (folder / 'result.json').unlink()
  loop.train(make_config(**BROKEN), folder)
  assert_same_run(whole, folder)
  assert str(data) in caplog.text and Checkpoints(folder).last_step() == last


def test_a_second_process_is_refused_and_a_paused_owner_stops(tmp_path, make_config):
  """Another process has the directory, or takes it over while this one trains."""
  config, folder = make_config(**BROKEN), tmp_path / 'run'
  with locks.hold(folder), pytest.raises(ValueError, match='is being trained by process'):
    loop.train(config, folder)

  def take_over(self, *arguments):
    other = locks._self() | {'host': 'elsewhere'}
    (folder / 'locks' / 'run.1.json').write_text(json.dumps(other))

  with pytest.MonkeyPatch.context() as patch, pytest.raises(locks.Lost):
    patch.setattr(Writer, 'progress', take_over)
    loop.train(config, folder)
  assert (folder / 'metrics.jsonl').read_text() == '' and not Checkpoints(folder).steps()


def test_a_save_that_fails_in_the_background_stops_the_run_at_the_next_step(engine, tmp_path):
  with contextlib.closing(Checkpoints(tmp_path)) as saved, pytest.MonkeyPatch.context() as patch:
    patch.setattr(step_files, 'write', mock.Mock(side_effect=OSError(28, 'No space left')))
    engine.restore(saved)
    engine.save(evaluated=False)
    while not saved._saver._pending.done():
      time.sleep(0.01)
    with pytest.raises(OSError, match='step 0 could not be written'):
      engine.check()
  assert not Checkpoints(tmp_path).steps()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, make_config):
  """Adam's first steps at such a rate overflow; what was saved before stays as it is."""
  config = make_config(**{'optim.lr': 1e30, 'optim.clip': 0.0, 'optim.warmup_ratio': 0.6})
  with pytest.raises(FloatingPointError, match=r'is nan at step \d+ .*Lower config\.optim\.lr'):
    loop.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'result.json').exists()
  assert all(not p.name.startswith('.') for p in (tmp_path / 'run').iterdir())


@pytest.fixture
def engine(work, tmp_path):
  """An engine whose train step adds one to each parameter, so that nothing is compiled."""
  devices = mesh.make_mesh(1)
  record = Record('run', work, setup.make_batches(work, devices), devices, 'commit')
  made = single.Single(record, tmp_path)

  def step(state, frozen, batch):
    moved = jax.tree.map(lambda x: x + 1, state.trainable)
    return state._replace(step=state.step + 1, trainable=moved), {'loss': np.ones(1)}

  lowered = mock.Mock(**{'compile.return_value': step})
  made._train_step = mock.Mock(**{'lower.return_value': lowered})
  return made


def test_a_state_advances_and_is_restored_with_the_progress_of_its_step(engine, work, tmp_path):
  with contextlib.closing(Checkpoints(tmp_path)) as saved:
    assert not engine.restore(saved) and engine.done == 0
    batches = engine.batches()
    for _ in range(2):
      engine.advance(next(batches))
    batches.close()
    engine.members[0].progress['losses'] = 2
    engine.save(evaluated=False)
  again = single.Single(engine.members[0], tmp_path)
  again.members[0].progress['losses'] = 0
  with contextlib.closing(Checkpoints(tmp_path)) as saved:
    assert again.restore(saved) and again.done == 2 == engine.done
  assert again.members[0].progress['losses'] == 2
  frozen, trained = again.parts(again.members[0])
  assert frozen is work.frozen
  for path, leaf in tree.flatten(trained).items():
    np.testing.assert_allclose(
      leaf, tree.flatten(work.trainable)[path] + 2, rtol=1e-6, err_msg=path
    )
  for ours, theirs in zip(again.batches(), setup.upcoming(engine.members[0].training, 2, 12)):
    np.testing.assert_array_equal(ours['input_ids'], theirs['input_ids'])


def test_a_run_that_diverged_names_the_checkpoint_that_stays(engine, tmp_path):
  with contextlib.closing(Checkpoints(tmp_path)) as saved:
    engine.restore(saved)
    engine.check()
    engine.members[0].error = 'loss is nan.'
    with pytest.raises(FloatingPointError, match=f'loss is nan. No step was saved in {tmp_path}'):
      engine.check()
    engine.members[0].error = ''
    engine.save(evaluated=False)
    engine.members[0].error = 'loss is nan.'
    with pytest.raises(FloatingPointError, match='The checkpoint of step 0 stays'):
      engine.check()
