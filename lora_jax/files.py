"""Files and folders that appear whole or not at all, and JSON in them."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

Json = dict[str, Any]  # An object in a JSON file.
PART = '.part'  # The end of the name of a file that is being written.
_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+:/')


def is_url(path: str | os.PathLike[str]) -> bool:
  """Whether a path begins as `gs://bucket/run` does; `Path` leaves one of the two slashes."""
  return bool(_URL.match(os.fspath(path)))


def on_disk(path: str | os.PathLike[str]) -> Path:
  """The path of what is read from the disk alone.

  Raises:
    ValueError: for a place on a bucket, saying how to copy it.
  """
  if is_url(path):
    raise ValueError(
      f'{path}: expected a place on the disk; of what is on a bucket only run directories are '
      'read. Copy it to the disk first (gcloud storage cp --recursive gs://BUCKET/FOLDER .)'
    )
  return Path(path).expanduser()


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
  """A binary file to write, which replaces `path` when the block ends without an error.

  A reader finds the old file or the new one, also after a crash or a loss of power: the new one is
  synchronized to the disk before it gets its name. The folder is made if it does not exist.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'.{path.name}.{os.getpid()}{PART}')
  try:
    with naming(path), open(part, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


def is_part(path: Path) -> bool:
  """Whether a file is one that `atomic` is writing, or that a killed process has left of it."""
  return path.name.startswith('.') and path.name.endswith(PART)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
  """Has errors of writing a file name it and the room that there is, as those of a full disk."""
  try:
    yield
  except OSError as error:
    if error.filename is not None or error.errno is None:
      raise
    free = shutil.disk_usage(Path(path).parent).free
    why = f'{error.strerror} while writing ({free} bytes are free)'
    raise OSError(error.errno, why, os.fspath(path)) from error


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
  """Writes a file as `atomic` does; text in UTF-8."""
  with atomic(path) as file:
    file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | os.PathLike[str], value: object) -> None:
  """Writes a value as indented JSON, as `atomic` does."""
  write_atomic(path, json.dumps(value, indent=2) + '\n')


def read_json(path: Path) -> object:
  """The value in a JSON file.

  Raises:
    ValueError: naming the file, if it is not valid JSON; see `parse_json`.
  """
  try:
    return parse_json(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path}: not valid JSON ({error})') from error


def read_object(path: Path) -> Json:
  """The object in a JSON file.

  Raises:
    ValueError: naming the file, if it is not valid JSON or holds something else.
  """
  value = read_json(path)
  if not isinstance(value, dict):
    raise ValueError(f'{path}: expected a JSON object {{...}}, found {str(value)[:40]!r}')
  return value


def parse_json(text: str) -> object:
  """The value of a JSON text.

  Raises:
    ValueError: if it is not valid JSON, names a key twice in an object, or is nested too deeply.
  """
  try:
    return json.loads(text, object_pairs_hook=_unique)
  except RecursionError:
    raise ValueError('nested too deeply') from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
  values = dict(pairs)
  if len(values) < len(pairs):
    counts = collections.Counter(name for name, _ in pairs)
    twice = [name for name, count in counts.items() if count > 1]
    raise ValueError(f'an object has two values of {", ".join(twice)[:200]}')
  return values


@contextlib.contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
  """A folder to fill, which gets its name when the block ends without an error.

  A reader finds the whole folder or nothing, also after a crash or a loss of power: the files and
  the folder are synchronized to the disk before the folder gets its name.

  Raises:
    FileExistsError: if there is something at `folder` already, other than an empty folder.
  """
  folder = check_new(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  part = folder.with_name(f'.{folder.name}.{os.getpid()}.part')
  part.mkdir()
  try:
    with naming(folder):  # Of whatever file; libraries write some of them.
      yield part
      for file in part.iterdir():
        # The safetensors library writes for the owner alone.
        file.chmod(part.stat().st_mode & 0o666)
        _synchronize(file)
      _synchronize(part)
      os.replace(part, folder)
  finally:
    shutil.rmtree(part, ignore_errors=True)


def check_new(folder: str | Path) -> Path:
  """The folder's absolute path, if nothing is there yet; see `new_folder`.

  Raises:
    FileExistsError: as `new_folder`.
    ValueError: for a place on a bucket, where a folder cannot appear as a whole.
  """
  if is_url(folder):
    raise ValueError(
      f'{folder}: expected a folder on a local disk. Write it there, and copy it to the bucket.'
    )
  folder = Path(folder).expanduser().absolute()
  if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
    raise FileExistsError(f'{folder} exists already. Name a new folder, or remove this one.')
  return folder


def _synchronize(path: Path) -> None:
  """Waits until a file's bytes, or a folder's entries, are on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
