"""State dicts written as PyTorch writes them, without PyTorch; `pytorch.Tensors` reads them."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lora_jax import errors, files
from lora_jax.pretrained.pickles import DTYPES, ORDERED_DICT, REBUILD_TENSOR

ROOT = 'archive'
ALIGNMENT = 64  # Bytes. Storages begin at multiples of it, so that they can be memory-mapped.
STORAGES = {dtype: name for name, dtype in DTYPES.items()}


def write(path: str | Path, tensors: Mapping[str, np.ndarray], key: str | None = None) -> None:
  """Writes tensors by name as a file that `torch.load(weights_only=True)` reads.

  The same tensors give the same bytes.

  Args:
    path: of the file, which is replaced as a whole.
    tensors: arrays of the dtypes in `pickles.DTYPES`.
    key: the key of the state dict in the file; None means that the file holds nothing else.

  Raises:
    ValueError: for a dtype that PyTorch's files do not have.
  """
  arrays = {name: np.asarray(x, order='C') for name, x in tensors.items()}
  if other := [f'{name} is {x.dtype}' for name, x in arrays.items() if x.dtype not in STORAGES]:
    known = errors.listed(list(map(str, STORAGES)))
    raise ValueError(f'{path}: dtypes that PyTorch lacks: {errors.listed(other)}. It has {known}.')
  program = _dict({name: _tensor(str(i), x) for i, (name, x) in enumerate(arrays.items())})
  if key is not None:
    program = _dict({key: program})
  records: dict[str, bytes | memoryview] = {
    'data.pkl': pickle.PROTO + b'\2' + program + pickle.STOP,
    'byteorder': b'little',
    **{f'data/{i}': x.reshape(-1).view(np.uint8).data for i, x in enumerate(arrays.values())},
    'version': b'3\n',
  }
  with files.atomic(path) as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
    for name, data in records.items():
      entry = zipfile.ZipInfo(f'{ROOT}/{name}')  # Its date is a constant.
      begin = file.tell() + 30 + len(entry.filename) + 4
      padding = -begin % ALIGNMENT
      entry.extra = struct.pack('<2sH', b'FB', padding) + b'Z' * padding  # As PyTorch pads.
      archive.writestr(entry, data)


def _tensor(key: str, x: np.ndarray) -> bytes:
  """The pickled call that makes a contiguous tensor of the storage `key`."""
  strides = [stride // x.itemsize for stride in x.strides]
  storage = _tuple(
    [_text('storage'), _global(STORAGES[x.dtype]), _text(key), _text('cpu'), _number(x.size)]
  )
  hooks = _global(ORDERED_DICT) + pickle.EMPTY_TUPLE + pickle.REDUCE
  arguments = [
    storage + pickle.BINPERSID,
    _number(0),
    _tuple(map(_number, x.shape)),
    _tuple(map(_number, strides)),
    pickle.NEWFALSE,
    hooks,
  ]
  return _global(REBUILD_TENSOR) + _tuple(arguments) + pickle.REDUCE


def _dict(items: Mapping[str, bytes]) -> bytes:
  pairs = b''.join(_text(name) + value for name, value in items.items())
  return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def _tuple(items: Iterable[bytes]) -> bytes:
  return pickle.MARK + b''.join(items) + pickle.TUPLE


def _global(name: str) -> bytes:
  module, name = name.split(' ')
  return pickle.GLOBAL + f'{module}\n{name}\n'.encode()


def _text(text: str) -> bytes:
  data = text.encode()
  return pickle.BINUNICODE + struct.pack('<I', len(data)) + data


def _number(number: int) -> bytes:
  if number < 1 << 31:
    return pickle.BININT + struct.pack('<i', number)
  return pickle.LONG1 + b'\x08' + struct.pack('<q', number)
