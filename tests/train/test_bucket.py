"""A run directory on a bucket: what it holds, how a run resumes on it, and the errors."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import fsspec
import jax
import numpy as np
import pytest
from etils import epath
from orbax.checkpoint._src.path import gcs_utils

from experiments import report as report_command
from lora_jax import stacking, sweep
from lora_jax.adapters import native
from lora_jax.train import (
  checkpoints,
  curve,
  export,
  job,
  locks,
  loop,
  paths,
  rundir,
  warm_start,
  writers,
)
from tests.train import bucket, test_writers

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {'train.epochs': 3, 'data.max_shapes': 1, 'train.eval_batch_size': 32}


@pytest.fixture(scope='module')
def place():
  """`place('run')`: a directory on a bucket that exists for this module."""
  known = fsspec.registry.get('gcs')
  with bucket.serve() as address, pytest.MonkeyPatch.context() as patch:
    patch.setenv('TENSORSTORE_GCS_HTTP_URL', address)
    # Of a bucket's kind Orbax asks Google's own client, which is not installed here.
    patch.setattr(gcs_utils, 'get_bucket', lambda name: None)
    patch.setattr(epath.backend.fsspec_backend, '_get_filesystem', lambda name: bucket.Bucket())
    fsspec.register_implementation('gcs', bucket.Bucket, clobber=True)
    yield lambda name: f'gs://bucket/{name}'
    if known:
      fsspec.register_implementation('gcs', known, clobber=True)


@pytest.fixture(scope='module')
def runs(place, make_config, tmp_path_factory):
  """(a run on the disk, the same on the bucket, stopped by SIGTERM and resumed)."""
  config = make_config(**CONFIG)
  local, remote = tmp_path_factory.mktemp('bucket') / 'run', place('run')
  loop.train(config, local)

  def show(self, *args):
    os.kill(os.getpid(), signal.SIGTERM)

  with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
    patch.setattr(writers.Writer, 'show', show)
    loop.train(config, remote)
  assert stopped.value.code == 143
  assert not (epath.Path(remote) / 'result.json').exists()
  loop.train(config, remote)
  return local, remote


def test_an_interrupted_run_on_a_bucket_ends_as_one_on_the_disk(runs):
  local, remote = runs[0], epath.Path(runs[1])
  ours, theirs = (json.loads((x / 'result.json').read_text()) for x in (remote, local))
  assert ours['history'] == theirs['history']
  ours, theirs = (curve.read(folder / 'metrics.jsonl') for folder in (remote, local))
  assert curve.reproducible(ours) == curve.reproducible(theirs) and any(map(curve.is_point, ours))
  names = lambda folder: sorted(path.name for path in folder.iterdir())
  assert names(remote) == names(local)
  assert names(remote / 'checkpoints') == names(local / 'checkpoints')  # Old ones are gone.
  assert len(names(remote / 'tensorboard')) == 2, 'one file for each start'
  ours, theirs = (checkpoints.Checkpoints(paths.path_of(x)) for x in (remote, local))
  for step in (ours.best_step(), ours.last_step()):
    found = (x.restore_trainable(step) for x in (ours, theirs))
    jax.tree.map(np.testing.assert_array_equal, *found)
  for one in (ours, theirs):
    one.close()


def test_a_run_on_a_bucket_is_read_as_any_other(runs, make_config, tmp_path, monkeypatch):
  local, remote = runs
  assert rundir.is_run(remote) and not rundir.is_run(remote + '/checkpoints')
  export.export_run(remote, tmp_path / 'remote')
  assert (tmp_path / 'remote' / 'README.md').exists(), 'the card, of its result'
  ours = native.read(tmp_path / 'remote')
  work, trained = job.load_run(local)
  expected = stacking.unstack(trained)
  jax.tree.map(np.testing.assert_array_equal, ours.trainable, expected)
  # As what another one begins with.
  started, _ = warm_start.warm_start(work, remote)
  jax.tree.map(np.testing.assert_array_equal, started, trained)
  # A finished one is returned; another config is refused, with what differs.
  config = make_config(**CONFIG)
  assert loop.train(config, remote)['history']
  with pytest.raises(
    ValueError, match=r'gs://bucket/run holds .*\n  train\.epochs: 3 in the directory, 9'
  ):
    loop.train(make_config(**CONFIG | {'train.epochs': 9}), remote)
  # And its result is kept in a report.
  given = {'ADD': [remote], 'FOLDER': str(tmp_path), 'LATEX': '', 'REDRAW': False}
  for name, value in given.items():
    monkeypatch.setattr(report_command, name, types.SimpleNamespace(value=value))
  report_command.main()
  assert len(list((tmp_path / 'runs').glob('*.json'))) == 1
  assert 'bucket' not in (tmp_path / 'README.md').read_text()


def test_records_are_on_the_bucket_when_write_returns(place):
  folder = place('writer')
  with writers.Writer(folder, total_steps=9, stream=test_writers.io.StringIO()) as writer:
    for step in (1, 2, 3):
      writer.write(step, {'loss': step / 8})
      assert len(test_writers.records(epath.Path(folder))) == step
    writer.show(3, {'loss': 0.5})
    assert test_writers.events(epath.Path(folder))[-1] == (3, 'loss', 3 / 8)
  test_writers.write_run(folder, (3, 4), resume_step=2, entries=test_writers.history(2))
  assert [record['step'] for record in test_writers.records(epath.Path(folder))] == [1, 2, 3, 4]


def test_a_failed_write_leaves_the_old_object(place):
  path = place('folder/result.json')
  writers.write_json(path, {'score': 1})
  with pytest.raises(TypeError):
    writers.write_json(path, {'score': object()})
  assert json.loads(epath.Path(path).read_text()) == {'score': 1}


def test_listings_are_not_kept(place):
  """gcsfs would answer from them that a file is missing which another host has written."""
  paths.path_of(place('run'))
  made = type('Remembers', (fsspec.AbstractFileSystem,), {'protocol': ('gs', 'gcs')})
  assert made(skip_instance_cache=True).dircache.use_listings_cache is False


def test_an_import_changes_neither_fsspec_nor_tensorboard():
  script = (
    'import fsspec\nfrom tensorboardX import record_writer\n'
    'before = dict(record_writer.REGISTERED_FACTORIES)\nfrom lora_jax.train import writers\n'
    'assert not fsspec.config.conf and record_writer.REGISTERED_FACTORIES == before'
  )
  subprocess.run([sys.executable, '-c', script], check=True, cwd=ROOT)


def test_an_export_needs_a_disk(place):
  with pytest.raises(ValueError, match=r'gs://bucket/out: expected a folder on a local disk'):
    export.export_run(place('none'), place('out'))


def test_a_lock_on_a_bucket_is_for_one_at_a_time(place, monkeypatch):
  folder = paths.path_of(place('locked'))
  with locks.hold(folder) as owner:
    with pytest.raises(ValueError, match='is being trained by process'):
      locks.check_free(folder)
    assert not paths.create(folder / 'locks' / 'run.0.json', 'mine')
    owner.check()
    monkeypatch.setattr(locks, 'RENEWED_EVERY', 0.01)
    other = locks._self() | {'host': 'elsewhere', 'time': time.time()}
    assert paths.create(folder / 'locks' / 'run.1.json', json.dumps(other))
    with pytest.raises(locks.Lost, match=r'by process .* on elsewhere'):
      owner.check()
  with pytest.raises(ValueError, match='on elsewhere'):
    locks.check_free(folder)
  other['time'] -= locks.LOST_AFTER + 1
  (folder / 'locks' / 'run.1.json').write_text(json.dumps(other))
  with locks.hold(folder):
    assert (folder / 'locks' / 'run.2.json').exists()


def test_a_damaged_checkpoint_on_a_bucket_is_passed_over(runs, make_config):
  local, remote = runs
  saved = checkpoints.Checkpoints(paths.path_of(remote))
  result, last = rundir.read_result(local), saved.last_step()
  damaged = next((saved.folder / str(last) / 'trainable' / 'd').iterdir())
  damaged.write_bytes(b'x' + damaged.read_bytes()[1:])
  (epath.Path(remote) / 'result.json').unlink()
  loop.train(make_config(**CONFIG), remote)
  assert rundir.read_result(paths.path_of(remote))['history'] == result['history']
  assert (saved.folder / f'{last}.set-aside').exists() and saved.last_step() == last


def test_sweeps_need_a_disk(place, make_config):
  with pytest.raises(
    ValueError, match=r'gs://bucket/sweep: a sweep replaces.*a --workdir on a disk'
  ):
    sweep.train(make_config(), [{'seed': 1}], place('sweep'))


class Unreachable(bucket.Bucket):
  """A bucket that answers with an error."""

  error: Exception

  def ls(self, *args, **kwargs):
    raise self.error


@pytest.mark.parametrize(
  'error, kind, words',
  [
    (ImportError('No gcsfs'), ValueError, r"pip install 'lora_jax\[gcs\]'"),
    (FileNotFoundError('b/lost/o'), OSError, 'Check its name'),
    (RuntimeError('Anonymous caller'), OSError, 'gcloud auth application-default login'),
  ],
)
def test_a_bucket_that_cannot_be_listed(place, monkeypatch, make_config, error, kind, words):
  unreachable = Unreachable()
  unreachable.error = error
  monkeypatch.setattr(epath.backend.fsspec_backend, '_get_filesystem', lambda name: unreachable)
  with pytest.raises(kind, match=rf'^gs://lost{type(error).__name__}:? .*{words}'):
    loop.train(make_config(), f'gs://lost{type(error).__name__}/run')


@pytest.mark.parametrize('name', ['s3://bucket/run', 'az://bucket/run', 'https://host/run'])
def test_other_buckets_are_refused(name, make_config):
  with pytest.raises(ValueError, match=rf'{name}: .*gs://bucket/run'):
    loop.train(make_config(), name)
