"""Tensors of a folder's safetensors files, one file or shards with an index, read one at a time.

The format: 8 bytes, little-endian, the length of a JSON header; the header, which gives every
tensor's dtype, shape and byte range; the bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype('<i8'),
  'I32': np.dtype('<i4'),
  'I16': np.dtype('<i2'),
  'I8': np.dtype('i1'),
  'U8': np.dtype('u1'),
  'BOOL': np.dtype('?'),
}


class Tensors(Mapping[str, np.ndarray]):
  """The tensors of one file by name. Shapes are known at once, bytes are read on access.

  A tensor is a read-only view of the file; copy what outlives the reading. `metadata` is what the
  file's writer noted in the header, strings by name.

  Raises:
    ValueError: if the file is no safetensors file, or its length is not what its header says. The
      message names the file.
  """

  def __init__(self, path: Path):
    self.path = path
    self._header, self.metadata, start = _read_header(path)
    self._data = np.memmap(path, np.uint8, mode='r')[start:]

  def __getitem__(self, name: str) -> np.ndarray:
    entry = self._header[name]
    begin, end = entry['data_offsets']
    return self._data[begin:end].view(DTYPES[entry['dtype']]).reshape(entry['shape'])

  def __iter__(self) -> Iterator[str]:
    return iter(self._header)

  def __len__(self) -> int:
    return len(self._header)


class Shards(Mapping[str, np.ndarray]):
  """The tensors of several files as an index assigns them."""

  def __init__(self, index: Path, kind: Callable[[Path], Mapping[str, np.ndarray]] = Tensors):
    self._files = _read_index(index, kind)

  def __getitem__(self, name: str) -> np.ndarray:
    return self._files[name][name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._files)

  def __len__(self) -> int:
    return len(self._files)


def read(folder: Path) -> Mapping[str, np.ndarray]:
  """The tensors in a folder's model.safetensors, or in the shards that its index names.

  Raises:
    FileNotFoundError: if the folder holds neither, or a shard is absent.
    ValueError: for a corrupt or truncated file, or an index that names absent tensors.
  """
  if (folder / SINGLE).exists():
    return Tensors(folder / SINGLE)
  if (folder / INDEX).exists():
    return Shards(folder / INDEX)
  others = sorted(path.name for path in folder.glob('*.bin'))
  hint = (
    f' It holds {", ".join(others)}: save the model again with safe_serialization=True, or fetch '
    'the safetensors file.'
    if others
    else ''
  )
  raise FileNotFoundError(f'{folder}: neither {SINGLE} nor {INDEX}.{hint}')


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
  """The entries of a file's header, its metadata, and where the bytes start."""
  size = path.stat().st_size
  with path.open('rb') as file:
    first = file.read(8)
    length = struct.unpack('<Q', first)[0] if len(first) == 8 else size
    if 8 + length > size:
      lfs = ' It is a Git LFS pointer: run `git lfs pull`.' if first == b'version ' else ''
      raise ValueError(
        f'{path}: not a safetensors file, or cut off within its header ({size} bytes).{lfs}'
      )
    raw = file.read(length)
  try:
    header = json.loads(raw)
    metadata = dict(header.pop('__metadata__', None) or {})
    problems = [problem for name, entry in header.items() if (problem := _wrong(name, entry))]
    end = max((entry['data_offsets'][1] for entry in header.values()), default=0)
  except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
    raise ValueError(f'{path}: its header is not a safetensors header ({error!r})') from error
  if problems:
    raise ValueError(f'{path}: {"; ".join(problems)}')
  if 8 + length + end != size:
    raise ValueError(
      f'{path}: {size} bytes, but its header describes {8 + length + end}: the file is truncated '
      'or corrupt. Fetch it again.'
    )
  return header, metadata, 8 + length


def _wrong(name: str, entry: Mapping[str, Any]) -> str | None:
  """What is wrong with a header's entry, if anything."""
  if entry['dtype'] not in DTYPES:
    return f'{name} has dtype {entry["dtype"]}, which is none of {", ".join(DTYPES)}'
  begin, end = entry['data_offsets']
  if end - begin != math.prod(entry['shape']) * DTYPES[entry['dtype']].itemsize or begin < 0:
    return f'{name} has {end - begin} bytes for {entry["dtype"]} {entry["shape"]}'
  return None


def _read_index(
  index: Path, kind: Callable[[Path], Mapping[str, np.ndarray]]
) -> dict[str, Mapping[str, np.ndarray]]:
  """The file of each tensor."""
  try:
    where = dict(json.loads(index.read_text())['weight_map'])
    names = sorted(set(where.values()))
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{index}: not an index with a weight_map ({error!r})') from error
  if absent := [name for name in names if not (index.parent / name).is_file()]:
    raise FileNotFoundError(f'{index}: names shards that are not there: {", ".join(absent)}')
  files = {name: kind(index.parent / name) for name in names}
  if absent := [
    f'{tensor} ({name})' for tensor, name in where.items() if tensor not in files[name]
  ]:
    raise ValueError(f'{index}: names tensors that their shard does not hold: {", ".join(absent)}')
  return {tensor: files[name] for tensor, name in where.items()}
