"""Tensors of a folder's safetensors files, one file or shards with an index, read one at a time.

A file begins with the length of its header, 8 bytes in little-endian order. Then come the header,
JSON with every tensor's dtype, shape and byte range, and the bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import ml_dtypes
import numpy as np

from lora_jax import errors, files, provenance

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


class Entry(TypedDict):
  """A tensor in a file's header."""

  dtype: str
  shape: list[int]
  data_offsets: list[int]


class Tensors(Mapping[str, np.ndarray]):
  """The tensors of one file by name. Shapes are known at once, bytes are read on access.

  A tensor is a read-only view of the file; copy it to keep it. `metadata` holds the strings by name
  that the file's writer added to the header.

  Raises:
    ValueError: if the file is not a safetensors file, or its length is not what its header says.
      The message names the file.
  """

  def __init__(self, path: Path):
    self.path = path
    provenance.note(path)
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
  """The tensors of several files, by the index that assigns them."""

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
    f' It holds {errors.listed(others)}: save the model again with safe_serialization=True, or '
    'fetch the safetensors file.'
    if others
    else ''
  )
  raise FileNotFoundError(f'{folder}: has neither {SINGLE} nor {INDEX}.{hint}')


def _read_header(path: Path) -> tuple[dict[str, Entry], dict[str, str], int]:
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
    problems = [problem for name, entry in header.items() if (problem := _problem(name, entry))]
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


def _problem(name: str, entry: Entry) -> str | None:
  """The reason why a tensor cannot be read, if there is one."""
  if entry['dtype'] not in DTYPES:
    return f'{name} has dtype {entry["dtype"]}, expected one of {", ".join(DTYPES)}'
  begin, end = entry['data_offsets']
  if end - begin != math.prod(entry['shape']) * DTYPES[entry['dtype']].itemsize or begin < 0:
    return f'{name} has {end - begin} bytes for {entry["dtype"]} {entry["shape"]}'
  return None


def _read_index(
  index: Path, kind: Callable[[Path], Mapping[str, np.ndarray]]
) -> dict[str, Mapping[str, np.ndarray]]:
  """The file of each tensor."""
  provenance.note(index)
  values = files.read_json(index)
  shard_of = values.get('weight_map') if isinstance(values, dict) else None
  if not isinstance(shard_of, dict) or not all(isinstance(x, str) for x in shard_of.values()):
    raise ValueError(f'{index}: not an index: expected an object weight_map of tensors to files')
  names = sorted(set(shard_of.values()))
  if absent := [name for name in names if not (index.parent / name).is_file()]:
    raise FileNotFoundError(f'{index}: names shards that do not exist: {errors.listed(absent)}')
  shards = {name: kind(index.parent / name) for name in names}
  if lost := [f'{name} ({shard})' for name, shard in shard_of.items() if name not in shards[shard]]:
    raise ValueError(f'{index}: names tensors that their shard lacks: {errors.listed(lost)}')
  return {name: shards[shard] for name, shard in shard_of.items()}
