"""GGUF files, llama.cpp's format, opened: `read`.

The package `gguf` (`pip install 'lora_jax[gguf]'`), the format's own, reads them. Before it sees a
file, the header is walked here, since a damaged one may claim any length (ggml's docs/gguf.md).
"""

from __future__ import annotations

import functools
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lora_jax import extras, provenance

if TYPE_CHECKING:
  from gguf import GGUFReader

SUFFIX, MAGIC = '.gguf', int.from_bytes(b'GGUF', 'little')
# Sizes of the values of each type of the header, in bytes; 8 is a string, 9 an array.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


def find(path: str | os.PathLike[str]) -> Path | None:
  """The GGUF file that a path is, or that a folder without a config.json holds; None if neither."""
  path = Path(path)
  if path.is_dir() and not (path / 'config.json').exists():
    found = sorted(path.glob(f'*{SUFFIX}'))
    return found[0] if len(found) == 1 else None
  return path if path.suffix == SUFFIX and path.is_file() else None


def read(path: Path) -> GGUFReader:
  """The package's reader of a file; the same file is opened once.

  Raises:
    ValueError: naming the file, if it is no GGUF file, or damaged.
    MissingExtra: if the package is not installed.
  """
  provenance.note(path)
  status = path.stat()
  return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)
def _read(path: Path, modified: int, size: int) -> GGUFReader:
  del modified
  with path.open('rb') as file:
    _Walk(file, path, size).header()
  extras.require('gguf')
  import gguf

  class Reader(gguf.GGUFReader):
    """The package's reader over a plain array, whose slices take a third of np.memmap's time."""

    data = property(lambda self: self._plain, lambda self, data: self._keep(data))

    def _keep(self, data: np.ndarray) -> None:
      self._plain = np.asarray(data)

  try:
    return Reader(path)
  except Exception as error:  # It raises whatever its arithmetic meets.
    raise ValueError(f'{path}: a damaged GGUF file ({error!r})') from error


class _Walk:
  """Walks a header, so that no length in it exceeds the file."""

  def __init__(self, file: BinaryIO, path: Path, size: int):
    self._file, self._path, self._left = file, path, size

  def header(self) -> None:
    """Raises a ValueError that names the file unless its header lies in it."""
    magic, version, tensors, pairs = self._numbers('IIQQ')
    if magic != MAGIC or version not in (2, 3):
      raise ValueError(
        f'{self._path}: not a GGUF file of version 2 or 3 ({magic:#x}, version {version})'
      )
    for _ in range(self._count(pairs, 12)):
      self._string()
      self._value(*self._numbers('I'))
    for _ in range(self._count(tensors, 24)):
      self._string()
      (dimensions,) = self._numbers('I')
      if not 0 < dimensions <= 4:
        raise ValueError(f'{self._path}: a tensor of {dimensions} dimensions')
      self._numbers(f'{dimensions}QIQ')

  def _value(self, kind: int, depth: int = 0) -> None:
    if kind == STRING:
      self._string()
    elif kind == ARRAY and depth < 4:
      item, count = self._numbers('IQ')
      if item in SIZES:
        self._skip(count * SIZES[item])
      else:
        for _ in range(self._count(count, 8)):
          self._value(item, depth + 1)
    elif kind in SIZES:
      self._skip(SIZES[kind])
    else:
      raise ValueError(f'{self._path}: a value of the unknown type {kind} in the header')

  def _string(self) -> None:
    self._skip(*self._numbers('Q'))

  def _count(self, count: int, least: int) -> int:
    """A number of items, each of which takes at least so many bytes."""
    if count * least > self._left:
      raise ValueError(f'{self._path}: its header counts {count} items, which it has no room for')
    return count

  def _numbers(self, form: str) -> tuple[int, ...]:
    size = struct.calcsize(f'<{form}')
    self._take(size)
    return struct.unpack(f'<{form}', self._file.read(size))

  def _skip(self, size: int) -> None:
    self._take(size)
    self._file.seek(size, os.SEEK_CUR)

  def _take(self, size: int) -> None:
    if size > self._left:
      raise ValueError(f'{self._path}: cut off within its header, or damaged')
    self._left -= size
