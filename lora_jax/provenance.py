"""Provenance: the files that a run was made from, and whether they are still the same.

Readers `note` each file that decides a result; a `recording` keeps what was noted inside its block,
with digests that are computed in the background. A run keeps its record in `provenance.json` and
refuses to be resumed or evaluated with other files: its numbers would be of two runs at once.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from absl import logging

from lora_jax import errors, files

FILE = 'provenance.json'
FLAG = '--allow_changed_inputs'
CHUNK = 1 << 22  # Bytes that are read at once.
KEYS = {'path', 'bytes', 'sha256', 'read'}


class Input(TypedDict):
  """A file that was read.

  Attributes:
    path: where it was; a member of an archive follows a colon.
    bytes: its size.
    sha256: its digest.
    read: when this run read it first, in local time with the offset from UTC.
    replaced: digests of the files that it replaced, where that was allowed.
  """

  path: str
  bytes: int
  sha256: str
  read: str
  replaced: NotRequired[list[str]]


# The key is what a file is read for, and its name: `base/config.json`, `data/RTE/train.tsv`.
Inputs = dict[str, Input]


class Recording:
  """What was read inside a block of `recording`."""

  def __init__(self) -> None:
    self._noted: dict[str, Future[Input]] = {}
    self._depth = len(_PARTS.get())

  def add(self, name: str, noted: Future[Input]) -> None:
    """Adds a file. Its key begins with the `part`s that were entered inside the block."""
    self._noted['/'.join((*_PARTS.get()[self._depth :], name))] = noted

  def inputs(self) -> Inputs:
    """All files so far; waits until their digests are computed.

    Raises:
      OSError: if one cannot be read any more.
    """
    return {name: noted.result() for name, noted in sorted(self._noted.items())}

  def replay(self) -> None:
    """Notes the same files again, for another recording: what was kept in memory is used again."""
    for name, noted in self._noted.items():
      _add(name, noted)


_PARTS: ContextVar[tuple[str, ...]] = ContextVar('parts', default=())
_RECORDINGS: ContextVar[tuple[Recording, ...]] = ContextVar('recordings', default=())
_ALLOWED: ContextVar[bool] = ContextVar('allowed', default=False)


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
  """Records the files that are noted inside the block, beside the recordings around it."""
  own = Recording()
  token = _RECORDINGS.set((*_RECORDINGS.get(), own))
  try:
    yield own
  finally:
    _RECORDINGS.reset(token)


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
  """Names what the files that are noted inside the block are read for: `base`, `data`."""
  token = _PARTS.set((*_PARTS.get(), name))
  try:
    yield
  finally:
    _PARTS.reset(token)


@contextlib.contextmanager
def changes_allowed(allowed: bool = True) -> Iterator[None]:
  """Lets runs go on with changed files inside the block, with a warning and a record of them."""
  token = _ALLOWED.set(allowed)
  try:
    yield
  finally:
    _ALLOWED.reset(token)


def note(path: str | os.PathLike[str], name: str = '', content: bytes | None = None) -> None:
  """Notes that a file is read, if anyone records it.

  Args:
    path: the file.
    name: its name in the record, the same wherever the file lies; '' is the last part of its path.
    content: its bytes, where they are available or only a member of an archive is read; None reads
      the file in a thread.
  """
  if not _RECORDINGS.get():
    return
  noted: Future[Input]
  if content is None:
    noted = _pool().submit(_read, Path(path))
  else:
    noted = Future()
    noted.set_result(_input(str(path), len(content), hashlib.sha256(content).hexdigest()))
  _add(name or Path(path).name, noted)


def note_folder(folder: Path, name: str) -> None:
  """Notes all files of a folder, under `name` and their paths in it."""
  if _RECORDINGS.get():
    for path in sorted(x for x in folder.rglob('*') if x.is_file()):
      note(path, f'{name}/{path.relative_to(folder)}')


@contextlib.contextmanager
def checked(workdir: Path) -> Iterator[list[str]]:
  """Checks what is read inside the block against a run directory's record, at its end.

  Yields:
    a list, to which the differences that are allowed are added.

  Raises:
    ValueError: as `check`.
  """
  changed: list[str] = []
  with recording() as read:
    yield changed
  changed += check(workdir, read.inputs(), whole=False)


def read_record(workdir: Path) -> Inputs | None:
  """The inputs that a run directory has on record; None if it was made without one.

  Raises:
    ValueError: if the record is damaged.
  """
  path = workdir / FILE
  if not path.exists():
    return None
  found = files.read_json(path)
  if not isinstance(found, dict) or not all(
    isinstance(x, dict) and x.keys() >= KEYS for x in found.values()
  ):
    raise ValueError(
      f'{path}: expected for each file that the run was made from {", ".join(sorted(KEYS))}. '
      'Delete it to record the files anew, if you know that they are the same.'
    )
  return cast(Inputs, found)


def check(workdir: Path, found: Inputs, *, whole: bool) -> list[str]:
  """Compares the inputs that were read now with those on record.

  Args:
    workdir: the run directory.
    found: what was read now.
    whole: whether all inputs of the run were read now; otherwise some of those on record may not
      have been, and data that is not on record is that of another split.

  Returns:
    the differences, a line each, where they are allowed; none for a run without a record.

  Raises:
    ValueError: if there are differences that are not allowed, naming each file.
  """
  recorded = read_record(workdir)
  if recorded is None:
    return []
  lines = list(_differences(recorded, found, whole))
  if not lines:
    return []
  names = errors.listed([line.partition(':')[0] for line in lines])
  listed = '\n'.join(f'  {line}' for line in lines)
  if not _ALLOWED.get():
    raise ValueError(
      f'{workdir} was made from other files than those found now: {names}\n{listed}\nPut the first '
      f'files back, or train in another --workdir. {FLAG} uses the changed ones and records that.'
    )
  logging.warning('%s is used with changed files (%s):\n%s', workdir, FLAG, listed)
  return lines


def updated(recorded: Inputs | None, found: Inputs) -> Inputs:
  """The record of a run that continues with the inputs `found`: the first time of each is kept."""
  new: Inputs = {}
  for name, now in found.items():
    first = (recorded or {}).get(name)
    if first is None:
      new[name] = now
    elif first['sha256'] == now['sha256']:
      new[name] = first
    else:
      new[name] = {**now, 'replaced': [*first.get('replaced', []), first['sha256']]}
  return new


def _differences(recorded: Inputs, found: Inputs, whole: bool) -> Iterator[str]:
  for name, now in found.items():
    first = recorded.get(name)
    if first is None:
      if whole or not name.startswith('data/'):
        others = errors.listed([x for x in recorded if x.split('/')[0] == name.split('/')[0]])
        yield f'{name}: {now["path"]} was not read before; read were {others or "none"}'
    elif first['sha256'] != now['sha256']:
      before = f'{first["bytes"]} bytes, {first["sha256"][:12]}'
      yield (
        f'{name}: {now["path"]} ({now["bytes"]} bytes, {now["sha256"][:12]}) is not what was read '
        f'first, at {first["read"]} from {first["path"]} ({before})'
      )
  for name in recorded if whole else ():
    if name not in found:
      yield f'{name}: {recorded[name]["path"]} was read before and is not read now'


def _add(name: str, noted: Future[Input]) -> None:
  for one in _RECORDINGS.get():
    one.add(name, noted)


@functools.cache
def _pool() -> ThreadPoolExecutor:
  return ThreadPoolExecutor(1, 'provenance')  # One: a disk reads no faster for two.


def _read(path: Path) -> Input:
  digest, size = hashlib.sha256(), 0
  with path.open('rb') as file:
    while chunk := file.read(CHUNK):
      digest.update(chunk)
      size += len(chunk)
  return _input(str(path), size, digest.hexdigest())


def _input(path: str, size: int, sha256: str) -> Input:
  return {
    'path': path,
    'bytes': size,
    'sha256': sha256,
    'read': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
  }
