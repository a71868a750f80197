import json
import pathlib
import shutil
import zipfile

import numpy as np
import pytest

from lora_jax.data import load_tokenizer
from lora_jax.data.sentence_piece import SentencePiece
from tests.data.marked import assert_equal

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'sentencepiece'  # make_sentencepiece.py
TOKENS = json.loads((GOLDEN / 'tokens.json').read_text())
MODEL = (GOLDEN / 'spm.model').read_bytes()
CASES = [(name, key) for name in ('cased', 'lower') for key in TOKENS[name]]


@pytest.mark.parametrize('name, key', CASES)
def test_equals_transformers(name, key):
  tokenizer, expected = SentencePiece(MODEL, name, lowercase=name == 'lower'), TOKENS[name][key]
  if key == 'plain':
    found = tokenizer.encode(TOKENS['texts'])
    assert_equal(TOKENS['texts'], found, expected)
    assert all(x.dtype == np.int32 for x in found)
  elif key == 'decoded':
    assert [tokenizer.decode(ids) for ids in TOKENS[name]['plain']] == expected
  else:
    kind, length = key.split('/')
    texts = TOKENS['texts'] if kind == 'single' else TOKENS['pairs']
    columns = (texts,) if kind == 'single' else zip(*texts)
    ids, types = tokenizer.encode_pairs(*columns, max_length=int(length))
    for found, of_golden in zip((ids, types), expected, strict=True):
      assert_equal(texts, found, of_golden)
    assert all(x.dtype == np.int32 for x in (*ids, *types))


def test_special_tokens():
  tokenizer = load_tokenizer(GOLDEN)
  assert isinstance(tokenizer, SentencePiece)
  ids, types = tokenizer.encode_pairs(['the'], ['the'], max_length=16)
  assert ids[0][0] == 1 and ids[0][-1] == tokenizer.eos_id == 2
  assert types[0].tolist() == [0] * (len(ids[0]) // 2 + 1) + [1] * (len(ids[0]) // 2)
  # [MASK] is not in the file and comes behind it.
  mask = tokenizer.id_of('[MASK]')
  assert mask == tokenizer.vocab_size - 1 == tokenizer.backend.get_piece_size()
  assert tokenizer.id_of('no such piece') is None
  assert tokenizer.decode(ids[0]) == 'the the'
  assert tokenizer.decode(ids[0], skip_special=False) == '[CLS] the [SEP] the [SEP]'


def test_the_configuration_archives_and_saved_folders(tmp_path):
  shutil.copy(GOLDEN / 'spm.model', tmp_path)
  (tmp_path / 'tokenizer_config.json').write_text('{"do_lower_case": true}')
  load_tokenizer(tmp_path).save(tmp_path / 'saved')
  with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
    for file in (tmp_path / 'saved').iterdir():
      archive.write(file, f'deberta/{file.name}')
  for path in (tmp_path, tmp_path / 'saved', tmp_path / 'x.zip'):
    found = load_tokenizer(path).encode(TOKENS['texts'])
    assert_equal(TOKENS['texts'], found, TOKENS['lower']['plain'])


def test_what_cannot_be_read_is_named(tmp_path):
  with pytest.raises(ValueError, match='max_length 3 leaves no room: 3 tokens are special'):
    load_tokenizer(GOLDEN).encode_pairs(['a'], ['b'], max_length=3)
  (tmp_path / 'spm.model').write_bytes(MODEL[:1000])
  with pytest.raises(ValueError, match=f'{tmp_path.name}: cannot read spm.model'):
    load_tokenizer(tmp_path)
  (tmp_path / 'spm.model').write_bytes(MODEL.replace(b'[SEP]', b'[END]'))
  with pytest.raises(ValueError, match=r'cannot read spm.model .no \[SEP\] among'):
    load_tokenizer(tmp_path)
  shutil.copy(GOLDEN / 'spm.model', tmp_path)
  (tmp_path / 'tokenizer_config.json').write_text('{"split_by_punct": true}')
  with pytest.raises(ValueError, match='split_by_punct is not supported'):
    load_tokenizer(tmp_path)
