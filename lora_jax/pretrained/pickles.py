"""The contents of a pickled state dict, found without running the pickle.

A pickle is a program. This module does not give it to `pickle` but interprets it, as far as state
dicts need: plain containers, numbers, names, and the calls in `CALLS`. Everything else is refused
before it has an effect. Time and memory are proportional to the pickle's length.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np

MAX_DIMENSIONS = 32
DTYPES = {
  'torch DoubleStorage': np.dtype('<f8'),
  'torch FloatStorage': np.dtype('<f4'),
  'torch HalfStorage': np.dtype('<f2'),
  'torch BFloat16Storage': np.dtype(jnp.bfloat16),
  'torch LongStorage': np.dtype('<i8'),
  'torch IntStorage': np.dtype('<i4'),
  'torch ShortStorage': np.dtype('<i2'),
  'torch CharStorage': np.dtype('i1'),
  'torch ByteStorage': np.dtype('u1'),
  'torch BoolStorage': np.dtype('?'),
}
ORDERED_DICT = 'collections OrderedDict'
REBUILD_TENSOR = 'torch._utils _rebuild_tensor_v2'
REBUILD_PARAMETER = 'torch._utils _rebuild_parameter'
CALLS = (ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER)
T = TypeVar('T')


class Storage(NamedTuple):
  """A storage by its key in the archive, with the dtype and number of its elements."""

  key: str
  dtype: np.dtype
  size: int


class View(NamedTuple):
  """A tensor: a part of a storage, in elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class Name(NamedTuple):
  """`module name` of something that a pickle asks for; nothing is imported."""

  name: str


MARK = object()


def interpret(pickled: bytes) -> object:
  """The value that a pickle describes: containers, numbers, strings and `View`s.

  Raises:
    ValueError: if it is damaged, or asks for anything that no state dict needs, naming it.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', DeprecationWarning)  # Of escapes in a damaged pickle.
      return _interpret(pickled)
  except (struct.error, UnicodeDecodeError) as error:
    raise ValueError(f'damaged ({error})') from error


def _interpret(pickled: bytes) -> object:
  stack: list[object] = []
  memo: dict[object, object] = {}
  for opcode, arg, position in pickletools.genops(pickled):
    if opcode.name == 'STOP':
      if len(stack) == 1:
        return stack[0]
      raise ValueError(f'damaged: {len(stack)} values are left at its end (byte {position})')
    try:
      _step(opcode.name, arg, stack, memo)
    except (IndexError, KeyError, TypeError) as error:  # Of the stack and the memo.
      raise ValueError(f'damaged at byte {position} ({opcode.name}, {error!r:.80})') from error
    except ValueError as error:
      raise ValueError(f'{error} (byte {position})') from error
  raise ValueError('cut off')


def _step(op: str, arg: object, stack: list[object], memo: dict[object, object]) -> None:
  """Applies one operation to the stack and the memo."""
  match op:
    case 'PROTO' | 'FRAME':
      pass
    case 'NONE':
      stack.append(None)
    case 'NEWTRUE' | 'NEWFALSE':
      stack.append(op == 'NEWTRUE')
    case (
      'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT' | 'BINUNICODE' | 'SHORT_BINUNICODE'
    ):
      stack.append(arg)
    case 'EMPTY_TUPLE' | 'EMPTY_LIST' | 'EMPTY_DICT':
      stack.append({'EMPTY_TUPLE': (), 'EMPTY_LIST': [], 'EMPTY_DICT': {}}[op])
    case 'BINPUT' | 'LONG_BINPUT':
      memo[arg] = stack[-1]
    case 'MEMOIZE':
      memo[len(memo)] = stack[-1]
    case 'BINGET' | 'LONG_BINGET':
      stack.append(memo[arg])
    case 'MARK':
      stack.append(MARK)
    case 'TUPLE':
      stack.append(tuple(_pop_to_mark(stack)))
    case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
      stack.append(tuple(_pop(stack, int(op[-1]))))
    case 'APPEND' | 'APPENDS':
      values = _pop(stack, 1) if op == 'APPEND' else _pop_to_mark(stack)
      _expect(list, stack[-1]).extend(values)
    case 'SETITEM' | 'SETITEMS':
      pairs = _pop(stack, 2) if op == 'SETITEM' else _pop_to_mark(stack)
      _set_items(_expect(dict, stack[-1]), pairs)
    case 'GLOBAL':
      stack.append(_name(_expect(str, arg)))
    case 'STACK_GLOBAL':
      module, name = _pop(stack, 2)
      stack.append(_name(f'{_expect(str, module)} {_expect(str, name)}'))
    case 'BINPERSID':
      stack.append(_storage(_expect(tuple, stack.pop())))
    case 'REDUCE':
      arguments = _expect(tuple, stack.pop())
      stack.append(_call(_expect(Name, stack.pop()).name, arguments))
    case 'BUILD':  # Of a state dict: the versions of its modules. They are dropped.
      stack.pop()
      _expect(dict, stack[-1])
    case _:
      raise ValueError(f'{op}, an operation which no state dict needs: refused')


def _pop(stack: list[object], count: int) -> list[object]:
  """Takes the topmost values off the stack, in the order in which they were put on it."""
  return [stack.pop() for _ in range(count)][::-1]


def _pop_to_mark(stack: list[object]) -> list[object]:
  """Takes the values above the last mark off the stack, and the mark."""
  values = []
  while (value := stack.pop()) is not MARK:
    values.append(value)
  return values[::-1]


def _set_items(mapping: dict[object, object], pairs: Sequence[object]) -> None:
  for key, value in zip(pairs[::2], pairs[1::2], strict=True):
    # Hashing a key of another type may recurse deeply.
    if type(key) not in (str, int):
      raise ValueError(f'a key of type {type(key).__name__}, expected str or int')
    if key in mapping:
      raise ValueError(f'the key {key!r:.100} twice in one dict')
    mapping[key] = value


def _expect(kind: type[T], value: object) -> T:
  # Not isinstance alone: a storage and a name are tuples, too.
  if type(value) is not kind or not isinstance(value, kind):
    raise ValueError(f'{type(value).__name__} where a {kind.__name__} is expected')
  return value


def _name(name: str) -> Name:
  if name not in CALLS and name not in DTYPES:
    raise ValueError(f'asks for {name[:100]!r}, which no state dict needs: refused')
  return Name(name)


def _storage(identity: tuple[object, ...]) -> Storage:
  """The storage with a persistent id ('storage', dtype, key, device, elements)."""
  if len(identity) != 5 or type(identity[0]) is not str or identity[0] != 'storage':
    raise ValueError('a persistent id that is not one of a storage')
  _, kind, key, _, size = identity
  if type(kind) is not Name or kind.name not in DTYPES:
    raise ValueError(f'a storage whose type is not one of {", ".join(DTYPES)}')
  return Storage(_expect(str, key), DTYPES[kind.name], _expect(int, size))


def _call(name: str, arguments: tuple[object, ...]) -> object:
  """The result of one of `CALLS`."""
  if name == ORDERED_DICT:
    if arguments:
      raise ValueError('an OrderedDict with arguments, as no state dict has')
    return {}
  if name == REBUILD_PARAMETER and arguments:
    return _expect(View, arguments[0])
  if name == REBUILD_TENSOR and len(arguments) >= 4:
    storage, offset, shape, strides = arguments[:4]
    view = View(_expect(Storage, storage), _size(offset), _sizes(shape), _sizes(strides))
    if len(view.shape) != len(view.strides) or len(view.shape) > MAX_DIMENSIONS:
      raise ValueError(f'a tensor of {len(view.shape)} dimensions with {len(view.strides)} strides')
    return view
  raise ValueError(f'{name} is not a function to call, or lacks arguments')


def _sizes(values: object) -> tuple[int, ...]:
  return tuple(map(_size, _expect(tuple, values)))


def _size(value: object) -> int:
  if (size := _expect(int, value)) < 0:
    raise ValueError('a tensor with a negative offset, size or stride')
  return size
