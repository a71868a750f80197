"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
  """A binary file to write, which replaces `path` when the block ends without an error.

  A reader finds the old file or the new one, also after a crash or a loss of power: the new one is
  synchronized to the disk before it gets its name. The folder is made if it does not exist.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    with open(part, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
  """Writes a file as `atomic` does; text in UTF-8."""
  with atomic(path) as file:
    file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
  """A folder to fill, which gets its name when the block ends without an error.

  Raises:
    FileExistsError: if there is something at `folder` already, other than an empty folder.
  """
  folder = check_new(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  part = folder.with_name(f'.{folder.name}.{os.getpid()}.part')
  part.mkdir()
  try:
    yield part
    for file in part.iterdir():  # The library of safetensors lets only their owner read its files.
      file.chmod(part.stat().st_mode & 0o666)
    os.replace(part, folder)
  finally:
    shutil.rmtree(part, ignore_errors=True)


def check_new(folder: str | Path) -> Path:
  """The folder's absolute path, if nothing is there yet; see `new_folder`.

  Raises:
    FileExistsError: as `new_folder`.
    ValueError: for a place on a bucket, where a folder cannot appear as a whole.
  """
  if '://' in str(folder):
    raise ValueError(f'{folder}: name a folder on the disk, and copy it there afterwards.')
  folder = Path(folder).expanduser().absolute()
  if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
    raise FileExistsError(f'{folder} exists already: name a new folder, or remove it.')
  return folder
