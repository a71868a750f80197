"""Checkpoints that cannot be written: said at once, by name, and what was there before stays."""

import contextlib
import resource
import subprocess
import time

import jax.numpy as jnp
import pytest

from lora_jax.train import saver
from lora_jax.train.saver import Saver


@contextlib.contextmanager
def full(folder):
  """A file system of one megabyte; where none can be mounted, files of at most 64 kB."""
  mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], check=False)
  if mounted.returncode == 0:
    try:
      yield 'No space left on device'
    finally:
      subprocess.run(['umount', '-l', folder], check=True)
    return
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
  try:
    yield 'File too large'
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_by_the_next_poll(tmp_path):
  with full(tmp_path) as cause:
    made = Saver(tmp_path / 'checkpoints', lambda: None)
    made.save(1, {'trainable': {'w': jnp.ones(3)}}, lambda folder: None)
    made.wait()
    with contextlib.closing(made):
      noise = jnp.arange(1_000_000, dtype=jnp.float32) ** 1.37
      made.save(2, {'trainable': {'w': noise}}, lambda folder: None)
      until = time.monotonic() + 60
      with pytest.raises(OSError, match=cause) as error:
        while time.monotonic() < until:
          made.poll()
    words = ['step 2', str(tmp_path / 'checkpoints'), 'bytes are free', 'resumes']
    words.append('Its arrays alone are 4000000 bytes')  # With small arrays the files take more.
    assert all(word in str(error.value) for word in words), error.value
    assert '\n' not in str(error.value)
    names = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
    assert names <= {'1', f'2{saver.UNFINISHED}'} and '1' in names


def test_an_error_of_the_last_writes_is_raised_too(tmp_path):
  made = Saver(tmp_path, lambda: None)

  def note(folder):
    raise OSError(28, 'No space left on device', str(folder / 'step.json'))

  made.save(1, {'trainable': {'w': jnp.ones(3)}}, note)
  with pytest.raises(OSError, match=r'step 1 could not be written.*step\.json'):
    made.close()
  assert [path.name for path in tmp_path.iterdir()] == [f'1{saver.UNFINISHED}']


def test_a_lost_process_is_not_told_as_a_full_disk(tmp_path, monkeypatch):
  monkeypatch.setattr(saver.hosts, 'may_be_a_loss', lambda error: 'reset by peer' in str(error))
  made = Saver(tmp_path, lambda: None)

  def note(folder):
    raise RuntimeError('Gloo AllGather failed: Connection reset by peer')

  made.save(1, {'trainable': {'w': jnp.ones(3)}}, note)
  with pytest.raises(ConnectionError, match=r'step 1 was not written.*another process was lost'):
    made.close()


def test_an_error_of_the_end_names_the_checkpoint(tmp_path, monkeypatch):
  """On a disk of 16 kB it was `[Errno 28] No space left on device`, of no file."""
  made = Saver(tmp_path, lambda: None)
  made.save(1, {'trainable': {'w': jnp.ones(3)}}, lambda folder: None)
  made.wait()
  close = made._orbax.close

  def closed():
    close()
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(made._orbax, 'close', closed)
  with pytest.raises(OSError, match=r'step 1 could not be written to .*No space.*bytes are free'):
    made.close()
