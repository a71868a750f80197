"""What is written as PyTorch writes it: read back the same (by PyTorch, too: make_adapters.py)."""

import pathlib
import zipfile

import ml_dtypes
import numpy as np
import pytest

from lora_jax.pretrained import pytorch, pytorch_writer

FILES = pathlib.Path(__file__).parents[1] / 'golden' / 'pytorch'


@pytest.mark.parametrize('key', [None, 'model_state_dict'])
@pytest.mark.parametrize('name', ['dtypes', 'views'])
def test_what_is_read_can_be_written(name, key, tmp_path):
  tensors = dict(pytorch.Tensors(FILES / f'{name}.bin'))
  pytorch_writer.write(tmp_path / 'x.bin', tensors, key)
  found = pytorch.Tensors(tmp_path / 'x.bin', key)
  assert list(found) == list(tensors)
  for tensor, x in tensors.items():
    assert (found[tensor].shape, found[tensor].dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(found[tensor], x, err_msg=tensor)
  assert [path.name for path in tmp_path.iterdir()] == ['x.bin']


def test_the_same_tensors_give_the_same_aligned_bytes(tmp_path):
  tensors = {'a': np.arange(5, dtype=np.float32), 'b': np.ones((2, 3), ml_dtypes.bfloat16)}
  for name in ('x.bin', 'y.bin'):
    pytorch_writer.write(tmp_path / name, tensors)
  data = (tmp_path / 'x.bin').read_bytes()
  assert data == (tmp_path / 'y.bin').read_bytes()
  assert data.index(tensors['a'].tobytes()) % 64 == 0
  with zipfile.ZipFile(tmp_path / 'x.bin') as file:
    names = ['archive/data.pkl', 'archive/byteorder', 'archive/data/0', 'archive/data/1']
    assert file.namelist() == [*names, 'archive/version']


def test_an_empty_dict_and_a_whole_file(tmp_path):
  pytorch_writer.write(tmp_path / 'x.bin', {})
  assert dict(pytorch.Tensors(tmp_path / 'x.bin')) == {}
  pytorch_writer.write(tmp_path / 'x.bin', {'a': np.zeros((), np.float32)})
  assert pytorch.Tensors(tmp_path / 'x.bin', 'state', or_whole=True)['a'].shape == ()
  with pytest.raises(ValueError, match="has no 'state'"):
    pytorch.Tensors(tmp_path / 'x.bin', 'state')


def test_a_dtype_that_pytorch_does_not_have(tmp_path):
  with pytest.raises(
    ValueError, match=r'dtypes that PyTorch lacks: a is uint32. It has float64, float32'
  ):
    pytorch_writer.write(tmp_path / 'x.bin', {'a': np.zeros(2, np.uint32)})
  assert not list(tmp_path.iterdir())
