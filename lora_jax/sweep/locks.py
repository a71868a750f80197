"""Locks on the runs of a sweep, for machines that share nothing but a folder: one lock a run.

The first to come creates `NAME.0.json`; creating a file that must not exist is atomic. The owner
renews its time while it lives. The lock of an owner that is lost (its process is gone from this
machine, or it was silent for `LOST_AFTER` seconds) is taken over by creating `NAME.1.json`, and so
on: the highest number counts. An owner that finds a higher one stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

RENEWED_EVERY = 30.0  # Seconds.
LOST_AFTER = 600.0  # Seconds without renewal, by the clock of the shared folder.


class Locks:
  """The locks of this process in a folder. Used as a context, it releases all at its end.

  Attributes:
    lost: set when another machine took over one of these locks: this one was silent for too long.
  """

  def __init__(self, folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    self.lost = threading.Event()
    self._folder = folder
    self._held: dict[str, Path] = {}
    self._closed = threading.Event()

  def take(self, name: str) -> bool:
    """Locks a run; returns False if another owner is alive."""
    latest = self._latest(name)
    if latest is not None and self._is_alive(latest):
      return False
    number = 0 if latest is None else _number(latest) + 1
    path = self._folder / f'{name}.{number}.json'
    try:
      with open(path, 'x', encoding='utf-8') as file:
        json.dump(_self() | {'time': time.strftime('%Y-%m-%dT%H:%M:%S%z')}, file)
    except FileExistsError:  # Another one was faster.
      return False
    self._held[name] = path
    return True

  def release(self) -> None:
    """Releases all locks: their runs are finished, or free for others."""
    for name in list(self._held):
      for path in self._of(name):
        path.unlink(missing_ok=True)
      del self._held[name]

  def __enter__(self) -> Locks:
    threading.Thread(target=self._renew, daemon=True, name='locks').start()
    return self

  def __exit__(self, *exception: object) -> None:
    self._closed.set()
    if not self.lost.is_set():
      self.release()

  def _renew(self) -> None:
    while not self._closed.wait(RENEWED_EVERY):
      for name, path in list(self._held.items()):
        if self._latest(name) not in (path, None):
          self.lost.set()
        with contextlib.suppress(FileNotFoundError):
          os.utime(path)

  def _of(self, name: str) -> list[Path]:
    locks = (p for p in self._folder.iterdir() if re.fullmatch(r'.+\.\d+\.json', p.name))
    return sorted((p for p in locks if p.name.rsplit('.', 2)[0] == name), key=_number)

  def _latest(self, name: str) -> Path | None:
    return next(reversed(self._of(name)), None)

  def _is_alive(self, path: Path) -> bool:
    try:
      owner = json.loads(path.read_text())
    except FileNotFoundError:
      return False
    except ValueError:
      owner = {}  # It is being written, or was cut short: its age tells.
    own = _self()
    if owner and all(owner.get(key) == own[key] for key in ('host', 'space')):
      return _runs(owner)
    return self._now() - path.stat().st_mtime < LOST_AFTER

  def _now(self) -> float:
    """The time by the folder's own clock, which those of the machines may differ from."""
    probe = self._folder / f'.now.{socket.gethostname()}.{os.getpid()}'
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    return now


def _self() -> dict[str, Any]:
  """This process; `space` tells containers apart that have the same name."""
  try:
    space = os.readlink('/proc/self/ns/pid')
  except OSError:
    space = ''
  pid = os.getpid()
  return {'host': socket.gethostname(), 'space': space, 'pid': pid, 'started': _started(pid)}


def _runs(owner: dict[str, Any]) -> bool:
  """Whether a process of this machine is running, and not another one with its number."""
  try:
    os.kill(owner['pid'], 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return _started(owner['pid']) == owner['started']


def _started(pid: int) -> str:
  """When a process began, in the kernel's ticks; '' where the system does not tell."""
  try:
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]
  except (OSError, IndexError):
    return ''


def _number(path: Path) -> int:
  return int(path.name.rsplit('.', 2)[1])
