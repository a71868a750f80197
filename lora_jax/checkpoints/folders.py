"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


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
