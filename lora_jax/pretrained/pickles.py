"""What a pickled state dict says, found out without running it.

A pickle is a program. This one is not given to `pickle` but interpreted here, as far as state dicts
need it: plain containers, numbers, names, and the calls in `CALLS`. All else is refused before it
has an effect. Time and memory are proportional to the pickle's length.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

MAX_DIMENSIONS = 32
DTYPES = {
  'torch DoubleStorage': np.dtype('<f8'),
  'torch FloatStorage': np.dtype('<f4'),
  'torch HalfStorage': np.dtype('<f2'),
  'torch BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'torch LongStorage': np.dtype('<i8'),
  'torch IntStorage': np.dtype('<i4'),
  'torch ShortStorage': np.dtype('<i2'),
  'torch CharStorage': np.dtype('i1'),
  'torch ByteStorage': np.dtype('u1'),
  'torch BoolStorage': np.dtype('?'),
}
CALLS = ('collections OrderedDict', 'torch._utils _rebuild_tensor_v2')
CALLS = (*CALLS, 'torch._utils _rebuild_parameter')


class Storage(NamedTuple):
  """A storage by its key in the archive, and how its bytes are to be read."""

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
  """`module name` of what a pickle asks for; nothing is imported."""

  name: str


MARK = object()
VALUES = {
  'NONE': lambda arg: None,
  'NEWTRUE': lambda arg: True,
  'NEWFALSE': lambda arg: False,
  'EMPTY_TUPLE': lambda arg: (),
  'EMPTY_LIST': lambda arg: [],
  'EMPTY_DICT': lambda arg: {},
  **dict.fromkeys(
    ('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINUNICODE'),
    lambda arg: arg,
  ),
}


def interpret(pickled: bytes) -> Any:
  """What a pickle describes: containers, numbers, strings and `View`s.

  Raises:
    ValueError: if it is damaged, or asks for anything that no state dict needs, naming it.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', DeprecationWarning)  # Of escapes in what is damaged.
      return _interpret(pickled)
  except (struct.error, UnicodeDecodeError) as error:
    raise ValueError(f'damaged ({error})') from error


def _interpret(pickled: bytes) -> Any:
  stack: list[Any] = []
  memo: dict[int, Any] = {}
  for opcode, arg, position in pickletools.genops(pickled):
    try:
      if opcode.name == 'STOP':
        if len(stack) != 1:
          raise ValueError(f'damaged: {len(stack)} values are left at its end')
        return stack[0]
      _step(opcode.name, arg, stack, memo)
    except (IndexError, KeyError, TypeError) as error:  # Of the stack and the memo.
      raise ValueError(f'damaged at byte {position} ({opcode.name}, {error!r:.80})') from error
    except ValueError as error:
      raise ValueError(f'{error} (byte {position})') from error
  raise ValueError('cut off')


def _step(op: str, arg: Any, stack: list[Any], memo: dict[int, Any]) -> None:
  if op in VALUES:
    stack.append(VALUES[op](arg))
  elif op in ('BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
    memo[len(memo) if op == 'MEMOIZE' else arg] = stack[-1]
  elif op in ('BINGET', 'LONG_BINGET'):
    stack.append(memo[arg])
  elif op == 'MARK':
    stack.append(MARK)
  elif op == 'TUPLE':
    stack.append(tuple(_marked(stack)))
  elif op in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
    stack.append(tuple([stack.pop() for _ in range(int(op[-1]))][::-1]))
  elif op in ('APPEND', 'APPENDS'):
    values = [stack.pop()] if op == 'APPEND' else _marked(stack)
    _expect(list, stack[-1]).extend(values)
  elif op in ('SETITEM', 'SETITEMS'):
    pairs = [stack.pop() for _ in range(2)][::-1] if op == 'SETITEM' else _marked(stack)
    _fill(_expect(dict, stack[-1]), pairs)
  elif op in ('GLOBAL', 'STACK_GLOBAL'):
    if op == 'STACK_GLOBAL':
      name, module = _expect(str, stack.pop()), _expect(str, stack.pop())
      arg = f'{module} {name}'
    if arg not in CALLS and arg not in DTYPES:
      raise ValueError(f'asks for {arg[:100]!r}, which no state dict needs: refused')
    stack.append(Name(arg))
  elif op == 'BINPERSID':
    stack.append(_storage(_expect(tuple, stack.pop())))
  elif op == 'REDUCE':
    arguments = _expect(tuple, stack.pop())
    stack.append(_call(_expect(Name, stack.pop()).name, arguments))
  elif op == 'BUILD':
    # Of a state dict: versions of its modules. It is not kept.
    stack.pop()
    _expect(dict, stack[-1])
  elif op not in ('PROTO', 'FRAME'):
    raise ValueError(f'{op}, an operation which no state dict needs: refused')


def _marked(stack: list[Any]) -> list[Any]:
  """Takes what lies above the last mark, and the mark."""
  values = []
  while (value := stack.pop()) is not MARK:
    values.append(value)
  return values[::-1]


def _fill(mapping: dict[Any, Any], pairs: list[Any]) -> None:
  for key, value in zip(pairs[::2], pairs[1::2], strict=True):
    # Of other types a key's hash may run deep.
    if type(key) not in (str, int):
      raise ValueError(f'a key of type {type(key).__name__}, expected str or int')
    mapping[key] = value


def _expect(kind: type, value: Any) -> Any:
  # Not isinstance: a storage and a name are tuples, too.
  if type(value) is not kind:
    raise ValueError(f'{type(value).__name__} where a {kind.__name__} is expected')
  return value


def _storage(identity: tuple[Any, ...]) -> Storage:
  """Of a persistent id ('storage', dtype, key, device, elements)."""
  if len(identity) != 5 or type(identity[0]) is not str or identity[0] != 'storage':
    raise ValueError('a persistent id that is none of a storage')
  _, kind, key, _, size = identity
  if type(kind) is not Name or kind.name not in DTYPES:
    raise ValueError(f'a storage of none of the types {", ".join(DTYPES)}')
  return Storage(_expect(str, key), DTYPES[kind.name], _expect(int, size))


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
  """What one of `CALLS` would give."""
  if name == 'collections OrderedDict':
    if arguments:
      raise ValueError('an OrderedDict with arguments, as no state dict has')
    return {}
  if name == 'torch._utils _rebuild_parameter' and arguments:
    return _expect(View, arguments[0])
  if name == 'torch._utils _rebuild_tensor_v2' and len(arguments) >= 4:
    storage, offset, shape, strides = arguments[:4]
    for value in (offset, *_expect(tuple, shape), *_expect(tuple, strides)):
      if _expect(int, value) < 0:
        raise ValueError('a tensor with a negative offset, size or stride')
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
      raise ValueError(f'a tensor of {len(shape)} dimensions with {len(strides)} strides')
    return View(_expect(Storage, storage), offset, shape, strides)
  raise ValueError(f'{name} is no function to call, or lacks arguments')
