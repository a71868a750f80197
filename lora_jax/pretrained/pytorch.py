"""Tensors of PyTorch's zip files, read without PyTorch and without running anything in them.

The format is an uncompressed zip archive. Its record `data.pkl` is a pickle of the state dict, in
which each storage is a persistent id; its records `data/KEY` hold the bytes of each storage.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from lora_jax import errors, provenance
from lora_jax.pretrained import safetensors, shards
from lora_jax.pretrained.pickles import View, interpret

SINGLE, INDEX = 'pytorch_model.bin', 'pytorch_model.bin.index.json'
MAX_PICKLE = 4 << 20  # Bytes: some 30,000 tensors. In memory a pickle can take 64 times its size.
MAX_DIRECTORY = 16 << 20  # Bytes of the zip's directory.


class Record(NamedTuple):
  """The bytes of a storage in the archive."""

  start: int
  size: int
  checksum: int


class Tensors(Mapping[str, np.ndarray]):
  """The tensors of a state dict by name. Shapes are checked at once, bytes when they are read.

  A tensor is a read-only view of the file, strided as it was saved; copy it to keep it.

  Args:
    path: path of the file.
    key: the key of the state dict, if the file holds more than that.
    or_whole: if the file has no such key, take everything in it as the state dict.

  Raises:
    ValueError: if the file is damaged, of PyTorch's older format, or holds anything but tensors of
      plain dtypes. The message names the file and the problem. A tensor whose bytes do not match
      their checksum raises when it is read.
  """

  def __init__(self, path: Path, key: str | None = None, *, or_whole: bool = False):
    self.path = path
    provenance.note(path)
    self._records, pickled = _open(path)
    try:
      contents = interpret(pickled)
    except ValueError as error:
      raise ValueError(f'{path}: data.pkl: {error}') from error
    if or_whole and not (isinstance(contents, dict) and key in contents):
      key = None
    if key is not None:
      if not isinstance(contents, dict) or key not in contents:
        raise ValueError(f'{path}: has no {key!r}; it holds {_describe(contents)}')
      contents = contents[key]
    self._views = _state_dict(contents, path)
    for name, view in self._views.items():
      if problem := _problem(view, self._records):
        raise ValueError(f'{path}: {name}: {problem}')
    self._data = np.memmap(path, np.uint8, mode='r')
    self._verified: set[str] = set()

  def __getitem__(self, name: str) -> np.ndarray:
    (key, dtype, _), offset, shape, strides = self._views[name]
    start, size, checksum = self._records[key]
    data = self._data[start : start + size]
    if key not in self._verified:
      found = 0
      for _, block in shards.blocks(data):
        found = zlib.crc32(block.data, found)
      if found != checksum:
        raise ValueError(
          f'{self.path}: {name}: the bytes of data/{key} do not match their checksum. Fetch the '
          'file again.'
        )
      self._verified.add(key)
    if not math.prod(shape):
      return np.empty(shape, dtype)
    strides = tuple(stride * dtype.itemsize for stride in strides)
    elements = data.view(dtype)[offset:]
    return np.lib.stride_tricks.as_strided(elements, shape, strides, writeable=False)

  def __iter__(self) -> Iterator[str]:
    return iter(self._views)

  def __len__(self) -> int:
    return len(self._views)


def is_only_format(folder: Path) -> bool:
  """Whether a folder holds PyTorch's files and no safetensors file."""
  holds = lambda *names: any((folder / name).exists() for name in names)
  return holds(SINGLE, INDEX) and not holds(safetensors.SINGLE, safetensors.INDEX)


def read(folder: Path) -> Mapping[str, np.ndarray]:
  """The tensors in a folder's pytorch_model.bin, or in the shards that its index names.

  Raises:
    FileNotFoundError: if the folder holds neither, or a shard is absent.
    ValueError: as `Tensors` does, or for an index that names absent tensors.
  """
  if (folder / SINGLE).exists():
    return Tensors(folder / SINGLE)
  if (folder / INDEX).exists():
    return safetensors.Shards(folder / INDEX, Tensors)
  raise FileNotFoundError(f'{folder}: neither {SINGLE} nor {INDEX}')


def _open(path: Path) -> tuple[dict[str, Record], bytes]:
  """The records of the storages by key, and the pickle."""
  size = path.stat().st_size
  with path.open('rb') as file:
    file.seek(-min(size, 1 << 17), 2)
    tail = file.read()
    if file.seek(0) == 0 and file.read(8) == b'version ':
      raise ValueError(f'{path}: a Git LFS pointer. Run `git lfs pull`.')
    if (directory := _directory_size(tail)) > MAX_DIRECTORY:
      raise ValueError(f'{path}: its zip directory has {directory} bytes, above {MAX_DIRECTORY}')
    try:
      with zipfile.ZipFile(file) as archive:
        return _read_archive(archive, file, path, size)
    except (zipfile.BadZipFile, EOFError, OSError, struct.error, NotImplementedError) as error:
      raise ValueError(
        f'{path}: truncated, or not a zip archive ({error}). Fetch it again. A file of PyTorch '
        'before 1.6 has to be loaded and saved again by a newer one.'
      ) from error


def _read_archive(
  archive: zipfile.ZipFile, file: IO[bytes], path: Path, size: int
) -> tuple[dict[str, Record], bytes]:
  """As `_open`; nothing is read before it is checked that it fits into the file."""
  entries = archive.infolist()
  pickles = [e for e in entries if e.filename.rsplit('/', 1)[-1] == 'data.pkl']
  if len(pickles) != 1:
    raise ValueError(f'{path}: {len(pickles)} records named data.pkl, expected one')
  root = pickles[0].filename.removesuffix('data.pkl')
  orders = [e for e in entries if e.filename == f'{root}byteorder']
  storages = [e for e in entries if e.filename.startswith(f'{root}data/')]
  if len({entry.filename for entry in storages}) < len(storages):
    raise ValueError(f'{path}: two records of one name')
  for entry in (*pickles, *orders):
    if entry.file_size > MAX_PICKLE:
      raise ValueError(
        f'{path}: {entry.filename} has {entry.file_size} bytes, above {MAX_PICKLE}: this is not a '
        'state dict'
      )
  for entry in (*pickles, *orders, *storages):
    uncompressed = entry.compress_type == zipfile.ZIP_STORED
    if not uncompressed or entry.compress_size != entry.file_size or entry.flag_bits & 1:
      raise ValueError(f'{path}: {entry.filename} is compressed; PyTorch compresses nothing')
    _check_room(entry, size, path)
  pickled = archive.read(pickles[0])
  if any(archive.read(entry) != b'little' for entry in orders):
    raise ValueError(f'{path}: big-endian tensors; only little-endian ones are read')
  records = {
    entry.filename.removeprefix(f'{root}data/'): Record(
      _start(file, entry, size, path), entry.file_size, entry.CRC
    )
    for entry in storages
  }
  return records, pickled


def _directory_size(tail: bytes) -> int:
  """Bytes of the zip's directory according to its end records; 0 if there is none."""
  sizes = [0]
  for signature, at, form in ((b'PK\5\6', 12, '<I'), (b'PK\6\6', 40, '<Q')):
    found = tail.rfind(signature)
    if found >= 0 and found + at + struct.calcsize(form) <= len(tail):
      value = struct.unpack_from(form, tail, found + at)[0]
      sizes.append(0 if value == 0xFFFFFFFF else value)
  return max(sizes)


def _check_room(entry: zipfile.ZipInfo, size: int, path: Path) -> None:
  if entry.header_offset < 0 or entry.header_offset + 30 + entry.file_size > size:
    raise ValueError(
      f'{path}: {entry.filename} is said to have {entry.file_size} bytes, which do not fit into a '
      f'file of {size}. Fetch it again.'
    )


def _start(file: IO[bytes], entry: zipfile.ZipInfo, size: int, path: Path) -> int:
  """The position of an uncompressed record's bytes: behind its header, which states its length."""
  file.seek(entry.header_offset)
  header = file.read(30)
  name, extra = struct.unpack_from('<HH', header, 26)
  start = entry.header_offset + 30 + name + extra
  if header[:4] != b'PK\3\4' or start + entry.file_size > size:
    raise ValueError(f'{path}: {entry.filename} is not where the directory says. Fetch it again.')
  return start


def _problem(view: View, records: Mapping[str, Record]) -> str | None:
  """The reason why a tensor cannot be read, if there is one."""
  (key, dtype, size), offset, shape, strides = view
  if key not in records:
    return f'its storage data/{key[:100]} is not in the archive'
  if records[key].size != size * dtype.itemsize:
    return f'data/{key} has {records[key].size} bytes, but should hold {size} {dtype} elements'
  elements = math.prod(shape)
  end = offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) + 1 if elements else 0
  if end > size:
    return f'shape {shape} and strides {strides} reach to element {end} of a storage of {size}'
  if elements > size:
    return f'shape {shape} repeats the {size} elements of its storage; save a contiguous tensor'
  return None


def _state_dict(contents: object, path: Path) -> dict[str, View]:
  if type(contents) is not dict:
    raise ValueError(f'{path}: holds {_describe(contents)}, expected a state dict')
  views = {key: value for key, value in contents.items() if type(value) is View}
  if others := [key for key in contents if key not in views]:
    inside = [key for key in others if type(contents[key]) is dict]
    hint = f' Choose one by key: {errors.listed(inside, 5)}.' if inside else ''
    raise ValueError(f'{path}: {len(others)} entries are not tensors: {others[:5]}.{hint}')
  named = {key: view for key, view in views.items() if type(key) is str}
  if numbers := [key for key in views if key not in named]:
    raise ValueError(f'{path}: {len(numbers)} tensors have numbers for names: {numbers[:5]}')
  return named


def _describe(value: object) -> str:
  return f'a dict of {list(value)[:5]}' if isinstance(value, dict) else f'a {type(value).__name__}'
