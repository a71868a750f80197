"""Locks on runs, for machines that share nothing but a folder."""

import json
import os
import subprocess
import time

import pytest

from lora_jax.train import locks
from lora_jax.train.locks import Locks


def write(folder, name, age=0.0, **process):
  """A lock that another process renewed `age` seconds ago."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / name
  path.write_text(json.dumps(locks._self() | process))
  then = time.time() - age
  os.utime(path, (then, then))
  return path


def test_a_lock_is_for_one_at_a_time(tmp_path):
  folder = tmp_path / 'locks'
  with Locks(folder) as first:
    assert first.take('a,rank=1.5') and not Locks(folder).take('a,rank=1.5')
    first.check()
  assert not folder.exists(), 'released'


@pytest.mark.parametrize(
  'age, process, free',
  [
    (0, {'host': 'elsewhere'}, False),
    (locks.LOST_AFTER + 5, {'host': 'elsewhere'}, True),
    (0, {'boot': 'another'}, False),  # Another machine of this name, or this one before it fell.
    (0, {'started': 'long ago'}, True),  # Of this machine, killed: nobody has to wait.
    (0, {'pid': 'x'}, True),
    (locks.LOST_AFTER + 5, {}, False),  # Of this machine, stopped by SIGSTOP: it may wake up.
  ],
)
def test_the_lock_of_a_lost_owner_is_taken_over(tmp_path, age, process, free):
  write(tmp_path, 'a.3.json', age, **process)
  assert Locks(tmp_path).take('a') is free
  assert (tmp_path / 'a.4.json').exists() is free


@pytest.mark.parametrize('text', ['', '[]', '{"host"', '{}'])
def test_a_lock_that_was_cut_short_goes_by_its_age(tmp_path, text):
  path = tmp_path / 'a.0.json'
  path.write_text(text)
  assert not Locks(tmp_path).take('a')
  os.utime(path, (1, 1))
  assert Locks(tmp_path).take('a')


def test_a_killed_process_that_nobody_waited_for_is_gone():
  process = subprocess.Popen(['sleep', '60'])
  found = locks._self() | {'pid': process.pid, 'started': locks._started(process.pid)}
  assert locks._runs(found)
  process.kill()
  while locks._runs(found):  # It stays in the table of processes.
    time.sleep(0.01)
  process.wait()


@pytest.mark.parametrize('seen', ['taken over', 'released by whoever took it over', 'renewed'])
def test_an_owner_that_was_paused_stops(tmp_path, monkeypatch, seen):
  monkeypatch.setattr(locks, 'RENEWED_EVERY', 0.01)
  with Locks(tmp_path) as owner:
    assert owner.take('a')
    if seen == 'taken over':
      write(tmp_path, 'a.1.json', host='elsewhere')
    elif seen == 'renewed':
      write(tmp_path, 'a.0.json', host='elsewhere')
    else:
      (tmp_path / 'a.0.json').unlink()
    with pytest.raises(locks.Lost, match='It stops without writing'):
      owner.check()
    assert owner.lost.wait(5)


def test_a_run_directory_is_held_and_its_owner_named(tmp_path, monkeypatch):
  words = rf'by process {os.getpid()} on .*renewed its lock \d+ s'
  with locks.hold(tmp_path), pytest.raises(ValueError, match=words):
    locks.check_free(tmp_path)
  locks.check_free(tmp_path)
  # A quiet owner on another machine is waited for.
  path = write(tmp_path / 'locks', 'run.0.json', locks.QUIET_AFTER + 1, host='elsewhere')
  monkeypatch.setattr(locks, 'RENEWED_EVERY', 0.02)
  monkeypatch.setattr(locks, 'LOST_AFTER', locks.QUIET_AFTER + 1.2)
  locks.check_free(tmp_path)
  with locks.hold(tmp_path):
    assert path.with_name('run.1.json').exists()
  write(tmp_path / 'locks', 'run.0.json', host='elsewhere')
  with pytest.raises(ValueError, match='on elsewhere'), locks.hold(tmp_path):
    pass
