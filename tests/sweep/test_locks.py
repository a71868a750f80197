"""Locks on runs, for machines that share nothing but a folder."""

import json
import os
import time

from lora_jax.sweep import locks


def test_a_lock_is_for_one_and_of_a_lost_owner_for_the_next(tmp_path, monkeypatch):
  here = locks._self()
  with locks.Locks(tmp_path) as ours:
    assert ours.take('a,rank=1.5') and not locks.Locks(tmp_path).take('a,rank=1.5')
  assert list(tmp_path.iterdir()) == []  # Released.

  far = tmp_path / 'a.0.json'
  far.write_text(json.dumps(here | {'host': 'elsewhere'}))
  other = locks.Locks(tmp_path)
  assert not other.take('a')
  silent = time.time() - locks.LOST_AFTER - 5
  os.utime(far, (silent, silent))
  assert other.take('a') and (tmp_path / 'a.1.json').exists()

  gone = tmp_path / 'b.0.json'  # Of this machine, killed: nobody has to wait.
  gone.write_text(json.dumps(here | {'started': 'long ago'}))
  assert other.take('b')

  monkeypatch.setattr(locks, 'RENEWED_EVERY', 0.01)
  with other:
    (tmp_path / 'b.2.json').write_text('{}')  # Somebody took us for lost.
    assert other.lost.wait(5)
