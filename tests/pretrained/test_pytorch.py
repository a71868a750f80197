"""PyTorch's files: the same tensors as there, and nothing that a hostile file asks for."""

import json
import os
import pathlib
import random
import shutil
import struct
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as writer

from lora_jax import tree
from lora_jax.pretrained import load_model, pytorch, safetensors
from tests.pretrained.pickled import FLOAT, Call, Global, pickled, tensor

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
FILES = GOLDEN / 'pytorch'  # Made by make_pytorch.py.


@pytest.mark.parametrize('name', ['dtypes', 'views', 'module', 'nested'])
def test_equals_torch(name):
  found = pytorch.Tensors(FILES / f'{name}.bin', 'model_state_dict' if name == 'nested' else None)
  expected = np.load(FILES / f'{name}.npz')
  assert set(found) == set(expected)
  for key, x in expected.items():
    assert found[key].shape == x.shape
    assert found[key].dtype == (ml_dtypes.bfloat16 if key == 'bfloat16' else x.dtype)
    np.testing.assert_array_equal(found[key].astype(x.dtype), x, err_msg=key)
    if x.size:
      with pytest.raises(ValueError, match='read-only'):
        found[key][...] = 0


def test_shared_storages_are_views_of_the_same_bytes():
  tensors = pytorch.Tensors(FILES / 'views.bin')
  for name in ('tied', 'transposed', 'row', 'column', 'steps'):
    assert np.shares_memory(tensors[name], tensors['whole']), name


@pytest.mark.parametrize(
  'file, key, problem',
  [
    ('tensor.bin', None, 'expected a state dict'),
    ('old.bin', None, r'truncated, or not a zip archive .* before 1.6 has to be loaded and saved'),
    ('nested.bin', None, r'4 entries are not tensors: .* Choose one by key: model_state_dict\.'),
    ('nested.bin', 'absent', "has no 'absent'"),
    ('nested.bin', 'step', 'holds a int'),
  ],
)
def test_files_of_another_kind(file, key, problem):
  with pytest.raises(ValueError, match=f'{file}: .*{problem}'):
    pytorch.Tensors(FILES / file, key)


@pytest.mark.real_data
def test_the_released_adapter(shared_data):
  path = shared_data.parent / 'checkpoints' / 'roberta_base_lora_mnli.bin'
  tensors = pytorch.Tensors(path)
  assert len(tensors) == 52
  assert sum(x.size for x in tensors.values()) == 887_811
  assert sum(x.size for name, x in tensors.items() if 'lora_' in name) == 294_912
  assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in tensors.values())
  assert tensors['roberta.encoder.layer.11.attention.self.value.lora_B'].shape == (768, 8)


# --- as a checkpoint of a model -------------------------------------------------------------------


def archive(path, program, storages=None, compression=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, 'w', compression) as file:
    file.writestr('archive/data.pkl', program if isinstance(program, bytes) else pickled(program))
    for key, data in ({0: bytes(24)} if storages is None else storages).items():
      file.writestr(f'archive/data/{key}', data)
  return path


def as_torch(path, tensors):
  program = {
    name: tensor(i, x.shape, tuple(s // 4 for s in x.strides), size=x.size)
    for i, (name, x) in enumerate(tensors.items())
  }
  return archive(path, program, {i: x.tobytes() for i, x in enumerate(tensors.values())})


def same(found, expected):
  found, expected = tree.flatten(found), tree.flatten(expected)
  assert found.keys() == expected.keys()
  for path in expected:
    np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


@pytest.mark.parametrize('sharded', [False, True])
def test_load_model_reads_pytorch_where_there_is_no_safetensors(sharded, tmp_path):
  tensors = {name: np.array(x) for name, x in safetensors.read(GOLDEN / 'models/bert').items()}
  shutil.copy(GOLDEN / 'models/bert/config.json', tmp_path)
  if sharded:
    names = sorted(tensors)
    shards = {'a.bin': names[::2], 'b.bin': names[1::2]}
    for file, members in shards.items():
      as_torch(tmp_path / file, {name: tensors[name] for name in members})
    where = {name: file for file, members in shards.items() for name in members}
    (tmp_path / pytorch.INDEX).write_text(json.dumps({'weight_map': where}))
  else:
    as_torch(tmp_path / pytorch.SINGLE, tensors)
  _, params = load_model(tmp_path, task='classification')
  _, expected = load_model(GOLDEN / 'models/bert', task='classification')
  same(params, expected)
  # A safetensors file beside it goes first.
  writer.save_file({name: 2 * x for name, x in tensors.items()}, tmp_path / safetensors.SINGLE)
  _, params = load_model(tmp_path, task='classification')
  word = lambda p: p['embeddings']['word']['embedding']
  np.testing.assert_array_equal(word(params), 2 * word(expected))


# --- hostile files --------------------------------------------------------------------------------


def refused(path, problem):
  with pytest.raises(ValueError, match=problem) as error:
    tensors = pytorch.Tensors(path)
    _ = [tensors[name] for name in tensors]
  assert str(path) in str(error.value)


def test_what_the_hostile_files_are_made_with_is_right(tmp_path):
  path = archive(tmp_path / 'x.bin', {'x': tensor()}, {0: np.arange(6, dtype='<f4').tobytes()})
  np.testing.assert_array_equal(pytorch.Tensors(path)['x'], np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
  'program, problem',
  [
    (Call(Global('os', 'system'), 'touch mark'), "data.pkl: asks for 'os system'"),
    ({'x': FLOAT}, '1 entries are not tensors'),
    ({1: tensor()}, '1 tensors have numbers for names'),
    (b'\x80\x02]r\xff\xff\xff\xff.', 'holds a list'),
    (b'', 'data.pkl: '),
  ],
)
def test_what_is_no_state_dict_is_refused_with_the_names_of_file_and_record(
  program, problem, tmp_path
):
  refused(archive(tmp_path / 'x.bin', program), problem)


HUGE = 1 << 62


@pytest.mark.parametrize(
  'change, problem',
  [
    (dict(shape=(HUGE, HUGE), strides=(1, 1)), 'reach to element'),
    (dict(shape=(HUGE, HUGE), strides=(0, 0)), 'repeats the 6 elements of its storage'),
    (dict(shape=(7,), strides=(0,)), 'repeats the 6 elements'),
    (dict(shape=(2, 3), strides=(4, 1)), r'reach to element 7 of a storage of 6'),
    (dict(offset=1), 'reach to element 7'),
    (dict(offset=HUGE), 'reach to element'),
    (dict(offset=-1), 'negative'),
    (dict(shape=(-2, -3)), 'negative'),
    (dict(strides=(3, -1)), 'negative'),
    (dict(shape=(2, 3), strides=(1,)), '2 dimensions with 1 strides'),
    (dict(shape=(1,) * 33, strides=(1,) * 33), '33 dimensions'),
    (dict(shape=(2.0, 3)), 'float where a int'),
    (dict(shape=(True, 3)), 'bool where a int'),
    (dict(shape=[2, 3]), 'list where a tuple'),
    (dict(size=7), r'data/0 has 24 bytes, but should hold 7 float32 elements'),
    (dict(size=HUGE, shape=(HUGE,), strides=(1,)), 'data/0 has 24 bytes'),
    (dict(size=-6), 'data/0 has 24 bytes'),
    (dict(key='../../secret'), r'data/../../secret is not in the archive'),
  ],
)
def test_tensors_that_are_not_in_their_storage(change, problem, tmp_path):
  refused(archive(tmp_path / 'x.bin', {'x': tensor(**change)}), problem)


def bounded(path, problem, seconds=3.0, megabytes=64):
  start = time.thread_time()
  refused(path, problem)
  assert time.thread_time() - start < seconds
  tracemalloc.start()  # Apart: tracing takes six times as long as reading.
  try:
    refused(path, problem)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < megabytes << 20


def test_bombs(tmp_path):
  """What would unfold to gigabytes is refused by what the archive says, not by trying."""
  deflated = zipfile.ZIP_DEFLATED
  path = archive(tmp_path / 'a.bin', {'x': tensor()}, {0: bytes(1 << 26)}, deflated)
  bounded(path, r'archive/data.pkl is compressed')
  path = archive(tmp_path / 'b.bin', b'\x80\x02' + b'}' * (pytorch.MAX_PICKLE + 1) + b'.')
  bounded(path, rf'data.pkl has {pytorch.MAX_PICKLE + 4} bytes, above {pytorch.MAX_PICKLE}')
  # A stored record that says to be larger than the file; and a directory that does.
  honest = archive(tmp_path / 'c.bin', {'x': tensor()}).read_bytes()
  for change in (
    lambda b, at: struct.pack_into('<II', b, at + 20, 0xFFFFFFF0, 0xFFFFFFF0),
    lambda b, at: struct.pack_into('<I', b, b.rfind(b'PK\5\6') + 12, 0xFFFFFFF0),
  ):
    data = bytearray(honest)
    change(data, data.rfind(b'PK\1\2'))
    (tmp_path / 'd.bin').write_bytes(data)
    bounded(tmp_path / 'd.bin', r'which do not fit into a file|its zip directory has')
  # References to references: 2^40 leaves, if something followed them.
  pairs = b''.join(b'h%ch%c\x86q%c' % (i, i, i + 1) for i in range(40))
  nested = b'\x80\x02()q\x00' + pairs + b't.'
  bounded(archive(tmp_path / 'e.bin', nested), 'holds a tuple')
  bounded(archive(tmp_path / 'f.bin', b'\x80\x02)' + b'\x85' * 300_000 + b'.'), 'holds a tuple')
  bounded(archive(tmp_path / 'g.bin', b'\x80\x02' + b'(' * 300_000 + b'.'), 'data.pkl: ')


def test_damaged_archives(tmp_path):
  honest = archive(tmp_path / 'x.bin', {'x': tensor()}, {0: os.urandom(24)}).read_bytes()
  for length in (0, 1, 8, 30, len(honest) // 2, len(honest) - 1):
    (tmp_path / 'cut.bin').write_bytes(honest[:length])
    refused(tmp_path / 'cut.bin', 'truncated, or not a zip archive')
  at = honest.index(b'archive/data/0') + len('archive/data/0')
  (tmp_path / 'flipped.bin').write_bytes(honest[:at] + bytes([honest[at] ^ 1]) + honest[at + 1 :])
  refused(tmp_path / 'flipped.bin', r'x: the bytes of data/0 do not match their checksum')
  with zipfile.ZipFile(tmp_path / 'two.bin', 'w') as file:
    for root in 'ab':
      file.writestr(f'{root}/data.pkl', pickled({}))
  refused(tmp_path / 'two.bin', '2 records named data.pkl')
  with zipfile.ZipFile(tmp_path / 'big.bin', 'w') as file:
    file.writestr('x/data.pkl', pickled({}))
    file.writestr('x/byteorder', 'big')
  refused(tmp_path / 'big.bin', 'big-endian')
  (tmp_path / 'lfs.bin').write_text('version https://git-lfs.github.com/spec/v1\n')
  refused(tmp_path / 'lfs.bin', 'Git LFS pointer')


def test_random_damage_is_an_error_or_changes_nothing_that_is_read(tmp_path):
  """Flipped bytes anywhere: never another exception, and never other numbers of the same name."""
  honest, expected = (FILES / 'module.bin').read_bytes(), np.load(FILES / 'module.npz')
  rng = random.Random(0)
  outcomes = {'error': 0, 'read': 0}
  for _ in range(400):
    data = bytearray(honest)
    for _ in range(rng.choice((1, 1, 8))):
      data[rng.randrange(len(data))] = rng.randrange(256)
    (tmp_path / 'x.bin').write_bytes(data)
    try:
      found = {name: np.array(x) for name, x in pytorch.Tensors(tmp_path / 'x.bin').items()}
    except ValueError:
      outcomes['error'] += 1
      continue
    outcomes['read'] += 1
    for name, x in found.items():
      np.testing.assert_array_equal(x, expected[name])
  assert min(outcomes.values()) > 20
