"""Reading safetensors files against their own writer, and what is said about broken ones."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as writer

from lora_jax.pretrained import safetensors

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8, np.bool_]


def tensors():
  rng = np.random.default_rng(0)
  found = {f't{i}': (4 * rng.random((3, i + 1))).astype(dtype) for i, dtype in enumerate(DTYPES)}
  return found | {'scalar': np.array(2.5, np.float32), 'empty': np.zeros((0, 4), np.float32)}


def same(found, expected):
  assert found.dtype == expected.dtype and found.shape == expected.shape
  np.testing.assert_array_equal(found, expected)


def write_shards(folder, weight_map=None):
  first, second = {'a': np.ones((2, 3), np.float32)}, {'b': np.zeros(4, np.float32)}
  writer.save_file(first, folder / 'model-1.safetensors')
  writer.save_file(second, folder / 'model-2.safetensors')
  weight_map = weight_map or {'a': 'model-1.safetensors', 'b': 'model-2.safetensors'}
  index = {'metadata': {}, 'weight_map': weight_map}
  (folder / safetensors.INDEX).write_text(json.dumps(index))
  return first | second


def test_one_file(tmp_path):
  expected = tensors()
  writer.save_file(expected, tmp_path / safetensors.SINGLE, metadata={'format': 'pt'})
  found = safetensors.read(tmp_path)
  assert set(found) == set(expected) and len(found) == len(expected)
  for name in expected:
    same(found[name], expected[name])


def test_shards(tmp_path):
  expected = write_shards(tmp_path)
  found = safetensors.read(tmp_path)
  assert set(found) == set(expected) and len(found) == 2
  for name in expected:
    same(found[name], expected[name])


@pytest.mark.parametrize('keep', [0, 5, 40, -1])
def test_truncated(tmp_path, keep):
  path = tmp_path / safetensors.SINGLE
  writer.save_file(tensors(), path)
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match=r'model.safetensors: .*(cut off|truncated)'):
    safetensors.read(tmp_path)


def corrupt(text, length=None):
  raw = text.encode()
  return (len(raw) if length is None else length).to_bytes(8, 'little') + raw


def entry(dtype, shape, offsets, name='a'):
  return json.dumps({name: {'dtype': dtype, 'shape': shape, 'data_offsets': offsets}})


@pytest.mark.parametrize(
  'content, message',
  [
    (b'version https://git-lfs.github.com/spec/v1\n', 'Git LFS pointer'),
    (corrupt('{"a": '), 'not a safetensors header'),
    (corrupt('[1, 2]'), 'not a safetensors header'),
    (corrupt('{"a": {"dtype": "F32"}}'), 'not a safetensors header'),
    (corrupt('{"a": {"dtype": "F9", "shape": [], "data_offsets": [0, 0]}}'), 'a has dtype F9'),
    (
      corrupt('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}') + bytes(4),
      r'a has 4 bytes for F32 \[2\]',
    ),
    (
      corrupt('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}') + bytes(9),
      'corrupt',
    ),
    ((1 << 60).to_bytes(8, 'little') + b'{}', 'cut off'),
    (corrupt('{"a": {}, "a": {}}'), 'two values of a'),
    (corrupt('{"a": ' + '[' * 100_000), 'nested too deeply'),
    (corrupt('{"__metadata__": {"format": 1}}'), '__metadata__ is not an object of strings'),
    (corrupt(entry('F32', [-1, -1], [0, 4])) + bytes(4), r'a has the shape \[-1, -1\]'),
    (corrupt(entry('F32', [0, 1 << 70], [0, 0])), 'a has the shape'),
    (corrupt(entry('F32', [0, 1 << 40, 1 << 40], [0, 0])), 'and shape'),
    (corrupt(entry('F32', [1.0], [0, 4])) + bytes(4), r'a has the shape \[1.0\]'),
    (corrupt(entry('F32', [1], [0, 4, 8])) + bytes(4), 'a has the offsets'),
    (corrupt(entry('F32', [1], [-4, 0])), 'a has the offsets'),
    (corrupt(entry('F32', [1 << 50], [0, 4 << 50])), 'truncated'),
    (corrupt(entry('F32', [1], [4, 8])) + bytes(8), 'a begins at byte 4, the tensor before it'),
    (
      corrupt(entry('F32', [2], [0, 8])[:-1] + ', ' + entry('F32', [2], [4, 12], 'b')[1:])
      + bytes(12),
      'b begins at byte 4, the tensor before it ends at 8',
    ),
  ],
)
def test_corrupt(tmp_path, content, message):
  (tmp_path / safetensors.SINGLE).write_bytes(content)
  with pytest.raises(ValueError, match=f'model.safetensors: .*{message}'):
    safetensors.read(tmp_path)


def test_an_index_that_names_an_absent_shard(tmp_path):
  write_shards(tmp_path)
  (tmp_path / 'model-2.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match=r'index.json: names shards .*: model-2.safetensors'):
    safetensors.read(tmp_path)


@pytest.mark.parametrize('name', ['../model-2.safetensors', '/etc/passwd', 'a/../../b', '..\\b'])
def test_an_index_that_names_a_file_elsewhere(name, tmp_path):
  folder = tmp_path / 'model'
  folder.mkdir()
  write_shards(folder, {'a': 'model-1.safetensors', 'b': name})
  with pytest.raises(ValueError, match=r'index.json: names files outside of its folder: '):
    safetensors.read(folder)


def test_a_tensor_in_two_shards_has_one_value(tmp_path):
  write_shards(tmp_path)
  expected = np.ones((2, 3), np.float32)
  second = {'a': expected, 'b': np.zeros(4, np.float32)}
  writer.save_file(second, tmp_path / 'model-2.safetensors')
  same(safetensors.read(tmp_path)['a'], expected)
  writer.save_file(second | {'a': 2 * expected}, tmp_path / 'model-2.safetensors')
  with pytest.raises(ValueError, match=r'a has other values in model-1.* than in model-2'):
    safetensors.read(tmp_path)


def test_an_index_that_names_an_absent_tensor(tmp_path):
  write_shards(tmp_path, {'a': 'model-1.safetensors', 'c': 'model-2.safetensors'})
  with pytest.raises(ValueError, match=r'index.json: names tensors .*: c \(model-2.safetensors\)'):
    safetensors.read(tmp_path)


@pytest.mark.parametrize('content', ['{', '{}', '[]', '{"weight_map": 3}'])
def test_a_file_that_is_not_an_index(tmp_path, content):
  (tmp_path / safetensors.INDEX).write_text(content)
  with pytest.raises(ValueError, match=r'index.json: not (an index|valid JSON)'):
    safetensors.read(tmp_path)


def test_a_folder_without_tensors(tmp_path):
  with pytest.raises(
    FileNotFoundError, match=f'{tmp_path.name}: has neither model.safetensors nor'
  ):
    safetensors.read(tmp_path)
  (tmp_path / 'pytorch_model.bin').touch()
  with pytest.raises(FileNotFoundError, match=r'It holds pytorch_model.bin: save the model again'):
    safetensors.read(tmp_path)
