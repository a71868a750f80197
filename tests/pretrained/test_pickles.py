"""What a pickle describes is found, and nothing that it asks for runs."""

import contextlib
import pathlib
import random
import struct
import zipfile

import numpy as np
import pytest

from lora_jax.pretrained import pickles
from tests.pretrained.pickled import FLOAT, REBUILD, Call, Global, Storage, pickled, tensor

FILES = pathlib.Path(__file__).parents[1] / 'golden' / 'pytorch'  # Made by make_pytorch.py.


@pytest.mark.parametrize('protocol', [2, 4])
def test_a_state_dict_is_its_containers_its_numbers_and_views(protocol):
  half = tensor(1, (4,), (1,), offset=2, kind=Global('torch', 'BFloat16Storage'))
  parameter = Call(Global('torch._utils', '_rebuild_parameter'), half, True, None)
  state = {'w': tensor(), 'more': [parameter, (1, 2.5, None, True)], 7: 'text'}
  found = pickles.interpret(pickled(state, protocol))
  whole = pickles.Storage('0', np.dtype('<f4'), 6)
  part = pickles.Storage('1', pickles.DTYPES['torch BFloat16Storage'], 6)
  assert found == {
    'w': pickles.View(whole, 0, (2, 3), (3, 1)),
    'more': [pickles.View(part, 2, (4,), (1,)), (1, 2.5, None, True)],
    7: 'text',
  }


SYSTEM, EVAL = Global('os', 'system'), Global('builtins', 'eval')
CODE = "open({!r}, 'w')"


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize(
  'program, problem',
  [
    (lambda mark: Call(SYSTEM, f'touch {mark}'), "asks for 'os system'"),
    (lambda mark: Call(Global('posix', 'system'), f'touch {mark}'), "'posix system'"),
    (lambda mark: {'x': Call(EVAL, CODE.format(mark))}, "'builtins eval'"),
    (lambda mark: Call(Global('__builtin__', 'exec'), CODE.format(mark)), "'__builtin__ exec'"),
    (lambda mark: [tensor(), Call(Call(Global('builtins', 'getattr'), SYSTEM, 'x'))], 'getattr'),
    (lambda mark: Call(Call(REBUILD, EVAL), mark), "'builtins eval'"),
    (lambda mark: Call(Global('torch', 'load'), mark), "'torch load'"),
    (lambda mark: Call(Global('torch._utils', '_rebuild_tensor_v2.__globals__'), 1), '__globals__'),
    (lambda mark: Call(Global('collections', 'OrderedDict'), {'x': 1}), 'with arguments'),
    (lambda mark: Call('a string', mark), 'str where a Name'),
    (lambda mark: Call(Call(Global('collections', 'OrderedDict')), mark), 'dict where a Name'),
    (lambda mark: Call(FLOAT, 10**15), 'not a function to call'),
    (lambda mark: {('x',): tensor()}, 'a key of type tuple'),
    (lambda mark: {'x': Call(REBUILD, 'no storage', 0, (), ())}, 'str where a Storage'),
    (lambda mark: {'x': Storage(EVAL, 0, 6)}, "'builtins eval'"),
    (lambda mark: {'x': Storage('torch FloatStorage', 0, 6)}, 'a storage whose type is not one of'),
    (lambda mark: {'x': tensor(kind=Global('torch', 'ComplexFloatStorage'))}, 'ComplexFloatStor'),
  ],
)
def test_nothing_in_a_pickle_runs(program, problem, protocol, tmp_path):
  mark = tmp_path / 'mark'
  with pytest.raises(ValueError, match=problem):
    pickles.interpret(pickled(program(str(mark)), protocol))
  assert not mark.exists()


@pytest.mark.parametrize(
  'program, problem',
  [
    (b"(S'touch mark'\nios\nsystem\n.", 'STRING.*refused'),
    (b'(cos\nsystem\nVmark\no.', "'os system'"),
    (b'\x80\x02\x8c\x02os\x8c\x06system\x93.', "'os system'"),
    (b'\x80\x02\x82\x01.', 'EXT1.*refused'),
    (b'\x80\x02ctorch\nFloatStorage\n)\x81.', 'NEWOBJ.*refused'),
    (b'\x80\x02\x8c\x01a}b.', 'str where a dict'),
    (b'\x80\x02h\x07.', 'damaged at byte 2'),
    (b'\x80\x02R.', 'damaged at byte 2'),
    (b'\x80\x02\x85.', 'damaged at byte 2'),
    (b'\x80\x02}}.', '2 values are left at its end'),
    (b'\x80\x02}', 'exhausted'),
    (b'\x80\x02\x8d' + struct.pack('<Q', 1 << 60) + b'x.', 'remain|not enough data'),
    (b'\x80\x02X' + struct.pack('<I', 1 << 31) + b'x.', 'remain|not enough data'),
    (b'\x80\x02\x8b' + struct.pack('<i', 1 << 30) + b'1.', 'remain|not enough data'),
    (b'', 'exhausted'),
  ],
)
def test_opcodes_that_no_state_dict_needs(program, problem):
  with pytest.raises(ValueError, match=problem):
    pickles.interpret(program)


def test_random_pickles_raise_nothing_but_value_errors():
  rng = random.Random(1)
  honest = zipfile.ZipFile(FILES / 'views.bin').read('views/data.pkl')
  for _ in range(3000):
    data = bytearray(honest)
    for _ in range(rng.choice((1, 3, 30))):
      data[rng.randrange(len(data))] = rng.randrange(256)
    with contextlib.suppress(ValueError):
      pickles.interpret(bytes(data))
