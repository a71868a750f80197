"""Locks on run directories: one owner at a time, among machines that share nothing but a folder.

The first to come creates `NAME.0.json`; creating a file that must not exist is atomic, on disks and
on buckets. The owner renews its time while it lives. The lock of an owner that is lost (its process
is gone from this machine, or it was silent for `LOST_AFTER` seconds) is taken over by creating
`NAME.1.json`, and so on: the highest number counts. An owner that was only paused finds a higher
one, or none, before it writes, and stops. Several processes that train one run are one owner: the
first one holds the lock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict

from lora_jax import files
from lora_jax.train import hosts, paths

RENEWED_EVERY = 10.0  # Seconds.
QUIET_AFTER = 30.0  # Seconds without renewal: whoever wants the lock waits for what becomes of it.
LOST_AFTER = 120.0  # Of a folder's own clock; on a bucket, of the machines' clocks.
FOLDER = 'locks'


class Lost(OSError):
  """Another process has taken over what this one had locked."""


class Process(TypedDict):
  """A process; `boot` and `space` tell machines and containers apart that have the same name."""

  host: str
  boot: str
  space: str
  pid: int
  started: str


class Owner(NamedTuple):
  """Who has a lock.

  Attributes:
    process: what the lock says; {} for one that was cut short.
    age: seconds since it was renewed.
    is_alive: whether it counts as one that still runs.
  """

  process: dict[str, object]
  age: float
  is_alive: bool

  def __str__(self) -> str:
    host, pid = (self.process.get(name, 'unknown') for name in ('host', 'pid'))
    return f'process {pid} on {host}, which renewed its lock {self.age:.0f} s ago'


class Locks:
  """The locks of this process in a folder. Used as a context, it releases all at its end.

  Attributes:
    lost: set when another process took over one of these locks: this one was silent for too long.
  """

  def __init__(self, folder: Path):
    self.lost = threading.Event()
    self._folder = folder
    self._held: dict[str, Path] = {}
    self._closed = threading.Event()

  def take(self, name: str) -> bool:
    """Locks a run; returns False if another owner is alive."""
    latest = self._latest(name)
    if latest is not None and self._owner(latest).is_alive:
      return False
    self._folder.mkdir(parents=True, exist_ok=True)
    path = self._folder / f'{name}.{0 if latest is None else _number(latest) + 1}.json'
    if not paths.create(path, _text()):  # Another one was faster.
      return False
    self._held[name] = path
    return True

  def owner(self, name: str) -> Owner | None:
    """Who has locked a run and is alive, or None."""
    latest = self._latest(name)
    owner = None if latest is None else self._owner(latest)
    return owner if owner and owner.is_alive else None

  def check(self) -> None:
    """Raises `Lost` if one of these locks is no longer this process's."""
    for name, path in list(self._held.items()):
      latest = self._latest(name)
      if latest != path or not _is_own(_read(path)):
        self.lost.set()
        by = f'by {self._owner(latest)}' if latest else 'and released'
        raise Lost(
          f'{self._folder.parent}: this process was silent for too long, and its lock of {name} '
          f'was taken over {by}. It stops without writing.'
        )

  def release(self) -> None:
    """Releases all locks: their runs are finished, or free for others."""
    for name in list(self._held):
      for path in self._of(name):
        path.unlink(missing_ok=True)
      del self._held[name]
    if not paths.on_bucket(self._folder):
      with contextlib.suppress(OSError):  # Others may have locks in it.
        self._folder.rmdir()

  def __enter__(self) -> Locks:
    threading.Thread(target=self._renew, daemon=True, name='locks').start()
    return self

  def __exit__(self, *exception: object) -> None:
    self._closed.set()
    if not self.lost.is_set():
      self.release()

  def _renew(self) -> None:
    while not self._closed.wait(RENEWED_EVERY):
      with contextlib.suppress(OSError):  # `check` says what is lost, before anything is written.
        self.check()
        for path in list(self._held.values()):
          path.write_text(_text(), encoding='utf-8') if paths.on_bucket(path) else os.utime(path)

  def _of(self, name: str) -> list[Path]:
    if not self._folder.exists():
      return []
    locks = (p for p in self._folder.iterdir() if re.fullmatch(r'.+\.\d+\.json', p.name))
    return sorted((p for p in locks if p.name.rsplit('.', 2)[0] == name), key=_number)

  def _latest(self, name: str) -> Path | None:
    return next(reversed(self._of(name)), None)

  def _owner(self, path: Path) -> Owner:
    process = _read(path)
    age = self._age(path, process)
    if _is_near(process):
      return Owner(process, age, _runs(process))
    return Owner(process, age, age < LOST_AFTER)

  def _age(self, path: Path, process: dict[str, object]) -> float:
    """Seconds since a lock was renewed, by the clock that is common to all that ask."""
    if paths.on_bucket(path):
      renewed = process.get('time')
      return max(time.time() - renewed, 0.0) if isinstance(renewed, int | float) else LOST_AFTER
    probe = self._folder / f'.now.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}'
    try:
      probe.touch()
      return max(probe.stat().st_mtime - path.stat().st_mtime, 0.0)
    except FileNotFoundError:  # It was released meanwhile.
      return LOST_AFTER
    finally:
      probe.unlink(missing_ok=True)


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[Locks]:
  """The lock on a run directory, for the block; all processes of the run call this.

  An owner on another machine that has been quiet for a while is waited for, until it is heard of or
  counts as lost.

  Raises:
    ValueError: as `check_free`.
  """
  with Locks(workdir / FOLDER) as locks:
    if hosts.is_first():
      while not locks.take('run'):
        check_free(workdir)
        logging.warning('%s: waiting for its owner, which is quiet', workdir)
        time.sleep(RENEWED_EVERY / 2)
    yield locks


def check_free(workdir: Path) -> None:
  """Raises a ValueError that names the owner, if a run directory has one that is not quiet."""
  if not hosts.is_first():
    return
  owner = Locks(workdir / FOLDER).owner('run')
  if owner and (owner.age < QUIET_AFTER or _is_near(owner.process)):
    raise ValueError(
      f'{workdir} is being trained by {owner}. Wait for its end or stop it, or choose another '
      '--workdir.'
    )


def _text() -> str:
  return json.dumps(_self() | {'time': time.time()})


def _read(path: Path) -> dict[str, object]:
  try:
    return files.read_object(path)
  except (ValueError, OSError):
    return {}  # It is being written, was cut short, or was released.


def _self() -> Process:
  """This process."""
  pid = os.getpid()
  try:
    boot = Path('/proc/sys/kernel/random/boot_id').read_text(encoding='utf-8').strip()
    space = os.readlink('/proc/self/ns/pid')
  except OSError:
    boot = space = ''
  return Process(host=socket.gethostname(), boot=boot, space=space, pid=pid, started=_started(pid))


def _is_own(process: dict[str, object]) -> bool:
  return all(process.get(key) == value for key, value in _self().items())


def _is_near(process: dict[str, object]) -> bool:
  """Whether a process is of this machine and container, so that its number says something."""
  own = _self()
  return all(process.get(key) == own[key] for key in ('host', 'boot', 'space'))


def _runs(process: dict[str, object]) -> bool:
  """Whether a process of this machine is running, and not another one with its number."""
  pid = process.get('pid')
  if not isinstance(pid, int) or pid <= 0:
    return False
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except (PermissionError, OverflowError):
    pass
  return _started(pid) == process.get('started')


def _started(pid: int) -> str:
  """When a process began, in the kernel's ticks; '' where the system does not tell, or it ended."""
  try:
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    return '' if fields[0] in 'ZX' else fields[19]
  except (OSError, IndexError):
    return ''


def _number(path: Path) -> int:
  return int(path.name.rsplit('.', 2)[1])
