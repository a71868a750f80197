"""Reads changed files, and watches what happens."""

from __future__ import annotations

import contextlib
import pathlib
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.fuzz.mutations import mutated
from tests.fuzz.readers import Reader

SECONDS = 20  # Of one file; a reader that takes longer hangs.
GROWTH = 1 << 20  # KiB by which the process may grow in one file.
# What no reader does: start a process, connect, delete, or call what a pickle names.
FORBIDDEN = {
  'os.system', 'os.exec', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.spawn', 'os.startfile',
  'subprocess.Popen', 'socket.connect', 'os.remove', 'os.rename', 'os.rmdir', 'shutil.rmtree',
  'pickle.find_class', 'ctypes.dlopen',
}  # fmt: skip


class Report(NamedTuple):
  """What came of a number of files: how many were read or refused, and all that is wrong."""

  read: int
  refused: int
  wrong: list[str]


class Hang(BaseException):
  """A reader took longer than `SECONDS`."""


def fuzz(reader: Reader, count: int, seed: int) -> Report:
  """Reads `count` changed files."""
  drawn = random.Random(seed)
  read = refused = 0
  wrong = []
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name) / 'case'
    folder.mkdir()
    reader.write(folder)
    originals = {file: (folder / file).read_bytes() for file in reader.files}
    reader.read(folder)  # It is valid.
    for number in range(count):
      file = reader.files[number % len(reader.files)]
      content = mutated(originals[file], drawn)
      (folder / file).write_bytes(content)
      problem = watched(lambda: reader.read(folder), (file, str(folder)))
      (folder / file).write_bytes(originals[file])
      if problem is None:
        read += 1
      elif not problem:
        refused += 1
      else:
        wrong.append(f'seed {seed}, change {number} of {file} ({len(content)} bytes): {problem}')
  return Report(read, refused, wrong)


def watched(read: Callable[[], object], names: tuple[str, ...]) -> str | None:
  """None if a value is read, '' if it is refused by an error that holds a name, else a problem."""
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with _deadline(), _events() as seen:
    try:
      read()
      problem = None
    except (ValueError, OSError) as error:
      named = any(name in str(error) for name in names)
      problem = '' if named else f'unnamed: {type(error).__name__}: {error}'
    except Hang:
      problem = f'hang, longer than {SECONDS} s'
    except Exception as error:
      where = traceback.extract_tb(error.__traceback__)[-1]
      place = f'{pathlib.Path(where.filename).name}:{where.lineno}'
      problem = f'unnamed: {type(error).__name__}: {str(error)[:200]} at {place}'
  if seen:
    return f'executed: {seen}'
  if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > GROWTH:
    return 'memory: grew by more than a GiB'
  return problem


_watching: list[list[str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
  if not _watching:
    return
  mode = arguments[1] if event == 'open' and len(arguments) > 1 else ''
  if event in FORBIDDEN or (isinstance(mode, str) and set(mode) & set('wax+')):
    _watching[-1].append(f'{event} {arguments!r}'[:200])


@contextlib.contextmanager
def _events() -> Iterator[list[str]]:
  """The forbidden events of the block."""
  if not _hooked:
    sys.addaudithook(_audit)
    _hooked.append(True)
  seen: list[str] = []
  _watching.append(seen)
  try:
    yield seen
  finally:
    _watching.pop()


_hooked: list[bool] = []


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
  def stop(*_: object) -> None:
    raise Hang

  before = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, SECONDS)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
