"""Tensors of a folder's safetensors files, one file or shards with an index, read one at a time.

A file begins with the length of its header, 8 bytes in little-endian order. Then come the header,
JSON with every tensor's dtype, shape and byte range, and the bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TypedDict

import jax.numpy as jnp
import numpy as np

from lora_jax import errors, files, provenance
from lora_jax.pretrained import shards

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
MAX_HEADER = 100 << 20  # Bytes, as in the library of the format.
MAX_SIZE = 1 << 60  # Elements or bytes: beyond any file.
MAX_DIMENSIONS = 32
DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(jnp.bfloat16),
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
    if length > MAX_HEADER:
      raise ValueError(
        f'{path}: its header has {length} bytes; a safetensors header has {MAX_HEADER} at most'
      )
    raw = file.read(length)
  try:
    header, metadata = _entries(files.parse_json(raw.decode()))
  except ValueError as error:
    raise ValueError(f'{path}: its header is not a safetensors header ({error})') from error
  problems = [problem for name, entry in header.items() if (problem := _problem(name, entry))]
  end = 0
  for name, entry in sorted(header.items(), key=lambda item: item[1]['data_offsets']):
    if not problems and entry['data_offsets'][0] != end:
      begin = entry['data_offsets'][0]
      problems.append(f'{name} begins at byte {begin}, the tensor before it ends at {end}')
    end = max(end, entry['data_offsets'][1])
  if problems:
    raise ValueError(f'{path}: {errors.listed(problems)}')
  if 8 + length + end != size:
    raise ValueError(
      f'{path}: {size} bytes, but its header describes {8 + length + end}: the file is truncated '
      'or corrupt. Fetch it again.'
    )
  return header, metadata, 8 + length


def _entries(header: object) -> tuple[dict[str, Entry], dict[str, str]]:
  """The entries and the metadata of a header.

  Raises:
    ValueError: if it does not have the types of a header.
  """
  if not isinstance(header, dict):
    raise ValueError(f'a {type(header).__name__}, expected an object')
  metadata = header.pop('__metadata__', None) or {}
  if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
    raise ValueError('__metadata__ is not an object of strings')
  size = lambda x: type(x) is int and 0 <= x < MAX_SIZE
  for name, entry in header.items():
    if not isinstance(entry, dict) or entry.keys() != Entry.__annotations__.keys():
      raise ValueError(f'{name}: expected an object with {", ".join(Entry.__annotations__)}')
    shape, offsets = entry['shape'], entry['data_offsets']
    if not isinstance(shape, list) or not all(map(size, shape)) or len(shape) > MAX_DIMENSIONS:
      raise ValueError(f'{name} has the shape {shape!r:.100}')
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(size, offsets)):
      raise ValueError(f'{name} has the offsets {offsets!r:.100}')
    if not isinstance(entry['dtype'], str) or math.prod(max(n, 1) for n in shape) >= MAX_SIZE:
      raise ValueError(f'{name} has dtype {entry["dtype"]!r:.100} and shape {shape!r:.100}')
  return header, metadata


def _problem(name: str, entry: Entry) -> str | None:
  """The reason why a tensor cannot be read, if there is one."""
  if entry['dtype'] not in DTYPES:
    return f'{name} has dtype {entry["dtype"]}, expected one of {", ".join(DTYPES)}'
  begin, end = entry['data_offsets']
  if end - begin != math.prod(entry['shape']) * DTYPES[entry['dtype']].itemsize:
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
  if outside := [name for name in names if _is_outside(name)]:
    raise ValueError(f'{index}: names files outside of its folder: {errors.listed(outside)}')
  if absent := [name for name in names if not (index.parent / name).is_file()]:
    raise FileNotFoundError(f'{index}: names shards that do not exist: {errors.listed(absent)}')
  held = {name: kind(index.parent / name) for name in names}
  if lost := [f'{name} ({shard})' for name, shard in shard_of.items() if name not in held[shard]]:
    raise ValueError(f'{index}: names tensors that their shard lacks: {errors.listed(lost)}')
  for other, tensors in held.items():
    for name in tensors.keys() & shard_of.keys():
      own = held[shard_of[name]]
      if own is not tensors and not shards.equal(own[name], tensors[name]):
        raise ValueError(f'{index}: {name} has other values in {shard_of[name]} than in {other}')
  return {name: held[shard] for name, shard in shard_of.items()}


def _is_outside(name: str) -> bool:
  path = PurePosixPath(name.replace('\\', '/'))
  return path.is_absolute() or '..' in path.parts
