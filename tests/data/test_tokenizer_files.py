import json
import pathlib
import shutil
import zipfile

import numpy as np
import pytest

from lora_jax.data import load_tokenizer, tokenizer_files
from tests.data.marked import assert_equal

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'tokens'  # Made by make_tokens.py.
TOKENS = json.loads((GOLDEN / 'tokens.json').read_text())
CASES = [(name, key) for name in TOKENS if isinstance(TOKENS[name], dict) for key in TOKENS[name]]


@pytest.mark.parametrize('name, key', CASES)
def test_equals_transformers(name, key):
  tokenizer, expected = load_tokenizer(GOLDEN / name), TOKENS[name][key]
  if key == 'plain':
    assert_equal(TOKENS['texts'], tokenizer.encode(TOKENS['texts']), expected)
    return
  kind, length = key.split('/')
  texts = TOKENS['texts'] if kind == 'single' else TOKENS['pairs']
  columns = (texts,) if kind == 'single' else zip(*texts)
  ids, types = tokenizer.encode_pairs(*columns, max_length=int(length))
  for found, of_golden in zip((ids, types), expected, strict=True):
    assert_equal(texts, found, of_golden)
  assert all(x.dtype == np.int32 for x in (*ids, *types))


def test_truncation_and_padding_of_the_file_are_off():
  """all-MiniLM-L6-v2's tokenizer.json pads and cuts to 128 tokens by itself."""
  saved = json.loads((GOLDEN / 'padded' / 'tokenizer.json').read_text())
  assert saved['truncation']['max_length'] == saved['padding']['strategy']['Fixed'] == 8
  tokenizer = load_tokenizer(GOLDEN / 'padded')
  expected = TOKENS['bert']['pair/512']
  ids, _ = tokenizer.encode_pairs(*zip(*TOKENS['pairs']), max_length=512)
  assert_equal(TOKENS['pairs'], ids, expected[0])
  # And the limit of one call does not reach into the next.
  tokenizer.encode_pairs(['a b c d e'], max_length=3)
  assert_equal(TOKENS['texts'], tokenizer.encode(TOKENS['texts']), TOKENS['bert']['plain'])


def test_the_configuration_beside_the_files_decides(tmp_path):
  shutil.copytree(GOLDEN / 'roberta', tmp_path / 'x')
  (tmp_path / 'x' / 'config.json').write_text('{"model_type": "gpt2"}')
  ids, _ = load_tokenizer(tmp_path / 'x').encode_pairs(['a'], max_length=4)
  assert len(ids[0]) == 1  # GPT-2 adds no special tokens.
  shutil.copytree(GOLDEN / 'bert', tmp_path / 'y')
  (tmp_path / 'y' / 'tokenizer_config.json').write_text('{"do_lower_case": false}')
  cased = load_tokenizer(tmp_path / 'y')
  assert cased.encode(['THE'])[0].tolist() == [cased.backend.token_to_id('[UNK]')]


def test_zip_and_saved_folder_are_the_same_tokenizer(tmp_path):
  with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
    for file in (GOLDEN / 'roberta').iterdir():
      archive.write(file, f'roberta/{file.name}')
  zipped = load_tokenizer(tmp_path / 'x.zip')
  zipped.save(tmp_path / 'saved' / 'here')
  saved = load_tokenizer(tmp_path / 'saved' / 'here')
  for tokenizer in (zipped, saved):
    ids, _ = tokenizer.encode_pairs(TOKENS['texts'], max_length=24)
    assert_equal(TOKENS['texts'], ids, TOKENS['roberta']['single/24'][0])
  assert (
    zipped.vocab_size
    == saved.vocab_size
    == 1 + max(json.loads((GOLDEN / 'roberta' / 'vocab.json').read_text()).values())
  )


def test_files_that_are_missing_or_damaged_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'nowhere: expected a folder or a zip'):
    load_tokenizer(tmp_path / 'nowhere')
  (tmp_path / 'merges.txt').write_text('a b\n')
  with pytest.raises(FileNotFoundError, match=r'expected tokenizer.json, or .*; found merges.txt'):
    load_tokenizer(tmp_path)
  (tmp_path / 'vocab.json').write_text('{"a": 0')
  with pytest.raises(ValueError, match=r'cannot read vocab.json'):
    load_tokenizer(tmp_path)
  (tmp_path / 'vocab.json').write_text('{"a": 0, "b": 1, "ab": 2}')
  (tmp_path / 'merges.txt').write_text('a b\na b c\n')
  with pytest.raises(ValueError, match=r"cannot read merges.txt .*'a b c'"):
    load_tokenizer(tmp_path)
  (tmp_path / 'vocab.txt').write_text('[UNK]\n[SEP]\n')
  with pytest.raises(ValueError, match=r'cannot read vocab.txt .*\[CLS\]'):
    load_tokenizer(tmp_path)
  (tmp_path / 'tokenizer.json').write_text('{"version": ')
  with pytest.raises(ValueError, match=r'cannot read tokenizer.json'):
    load_tokenizer(tmp_path)
  (tmp_path / 'cut.zip').write_bytes(b'PK\x03\x04 and no more')
  with pytest.raises(ValueError, match=r'cut.zip is truncated or not a zip'):
    load_tokenizer(tmp_path / 'cut.zip')


@pytest.mark.real_data
def test_real_vocabularies(shared_data):
  gpt2 = load_tokenizer(shared_data / 'tokenizer-gpt2.zip')
  assert (gpt2.vocab_size, gpt2.eos_id) == (50257, 50256)
  assert gpt2.encode([' Hello world'])[0].tolist() == [18435, 995]
  bert = load_tokenizer(shared_data / 'tokenizer-bert-base-uncased.zip')
  ids, types = bert.encode_pairs(['Hello, World!'], ['How are you?'], max_length=64)
  assert bert.vocab_size == 30522
  assert ids[0].tolist() == [101, 7592, 1010, 2088, 999, 102, 2129, 2024, 2017, 1029, 102]
  assert types[0].tolist() == [0] * 6 + [1] * 5


def test_the_ends_of_texts_are_those_of_training_and_of_the_base(tmp_path):
  shutil.copytree(GOLDEN / 'gpt2', tmp_path / 'x')
  tokenizer = load_tokenizer(tmp_path / 'x')
  end = tokenizer.eos_id
  assert tokenizer_files.special_ids(tmp_path / 'x') == {'eos_token_id': end, 'pad_token_id': end}
  (tmp_path / 'x/config.json').write_text('{"bos_token_id": 3, "eos_token_id": 4}')
  (tmp_path / 'x/generation_config.json').write_text('{"eos_token_id": [4, 5]}')
  (tmp_path / 'x/tokenizer_config.json').write_text('{"pad_token": {"content": "a"}}')
  assert tokenizer_files.special_ids(tmp_path / 'x') == {
    'bos_token_id': 3,
    'eos_token_id': sorted({4, 5, end}),
    'pad_token_id': tokenizer.id_of('a'),
  }
  # Older folders name them in a file of their own, which tokenizer_config.json goes before.
  (tmp_path / 'x/special_tokens_map.json').write_text('{"eos_token": "b", "pad_token": "b"}')
  found = tokenizer_files.special_ids(tmp_path / 'x')
  assert found['eos_token_id'] == sorted({4, 5, end, tokenizer.id_of('b')})
  assert found['pad_token_id'] == tokenizer.id_of('a')
