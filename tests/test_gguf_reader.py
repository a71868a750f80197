"""A GGUF file whose header lies is refused before anything is allocated or read."""

import struct

import pytest

from lora_jax import gguf_reader
from tests.pretrained.gguf_toys import write


@pytest.fixture(scope='module')
def content(tmp_path_factory):
  path = tmp_path_factory.mktemp('gguf') / 'model.gguf'
  write(path, 'llama-untied')
  return path.read_bytes()


def test_a_whole_file_is_read(tmp_path, content):
  path = tmp_path / 'model.gguf'
  path.write_bytes(content)
  assert gguf_reader.find(path) == gguf_reader.find(tmp_path) == path
  assert gguf_reader.find(tmp_path / 'absent.gguf') is None
  reader = gguf_reader.read(path)
  assert reader.fields['llama.block_count'].contents() == 2
  assert gguf_reader.read(path) is reader  # It is opened once.
  path.write_bytes(content + b'\0')
  assert gguf_reader.read(path) is not reader


@pytest.mark.parametrize('length', [0, 3, 12, 23, 30, 200, 3000])
def test_a_header_that_is_cut_off(tmp_path, content, length):
  path = tmp_path / 'model.gguf'
  path.write_bytes(content[:length])
  with pytest.raises(
    ValueError, match=f'{path}: cut off within its header|{path}: its header count'
  ):
    gguf_reader.read(path)


def test_a_file_that_is_cut_off_within_its_tensors(tmp_path, content):
  path = tmp_path / 'model.gguf'
  path.write_bytes(content[:-5000])
  with pytest.raises(ValueError, match=f'{path}: a damaged GGUF file'):
    gguf_reader.read(path)


@pytest.mark.parametrize('at', [8, 16])
def test_a_count_of_tensors_or_values_beyond_the_file(tmp_path, content, at):
  path = tmp_path / 'model.gguf'
  path.write_bytes(content[:at] + struct.pack('<Q', 2**60) + content[at + 8 :])
  with pytest.raises(ValueError, match=f'{path}: its header counts {2**60} items'):
    gguf_reader.read(path)


def test_an_array_that_claims_more_than_the_file(tmp_path, content):
  at = content.index(b'tokenizer.ggml.tokens') + len(b'tokenizer.ggml.tokens') + 8
  path = tmp_path / 'model.gguf'
  path.write_bytes(content[:at] + struct.pack('<Q', 2**60) + content[at + 8 :])
  with pytest.raises(ValueError, match=f'{path}: its header counts {2**60} items'):
    gguf_reader.read(path)


def test_another_kind_of_file(tmp_path):
  path = tmp_path / 'model.gguf'
  path.write_bytes(b'PK' * 50)
  with pytest.raises(ValueError, match=f'{path}: not a GGUF file of version 2 or 3'):
    gguf_reader.read(path)
