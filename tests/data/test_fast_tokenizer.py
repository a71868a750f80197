"""BERT's WordPiece and byte-level BPE."""

import json
import pathlib

import pytest

from lora_jax.data import fast_tokenizer, load_tokenizer

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'tokens'  # Made by make_tokens.py.
TOKENS = json.loads((GOLDEN / 'tokens.json').read_text())


def test_special_tokens_of_pairs():
  bert, roberta = (load_tokenizer(GOLDEN / name) for name in ('bert', 'roberta'))
  name_of = lambda tokenizer, ids: [tokenizer.backend.id_to_token(i) for i in ids]
  ids, types = bert.encode_pairs(['a'], ['a'], max_length=8)
  assert name_of(bert, ids[0]) == ['[CLS]', 'a', '[SEP]', 'a', '[SEP]']
  assert types[0].tolist() == [0, 0, 0, 1, 1]
  ids, types = roberta.encode_pairs(['a'], ['a'], max_length=8)
  assert name_of(roberta, ids[0]) == ['<s>', 'a', '</s>', '</s>', 'a', '</s>']
  assert types[0].tolist() == [0] * 6


def test_byte_level_decodes_to_the_text_it_encoded():
  tokenizer = load_tokenizer(GOLDEN / 'gpt2')
  for text in TOKENS['texts']:
    assert tokenizer.decode(tokenizer.encode([text])[0], skip_special=False) == text
  assert tokenizer.decode([tokenizer.eos_id]) == ''
  assert tokenizer.decode([tokenizer.eos_id], skip_special=False) == '<|endoftext|>'


def test_no_room_for_text_is_an_error():
  with pytest.raises(ValueError, match='max_length 3 leaves no room: 3 tokens are special'):
    load_tokenizer(GOLDEN / 'bert').encode_pairs(['a'], ['b'], max_length=3)


def test_a_vocabulary_is_a_function_of_its_texts():
  texts = ['The restaurant , well - known , costs £ 30 .', 'A 17th place _ of 30,000'] * 9
  first, again = (fast_tokenizer.train_byte_level(iter(texts), 300, 'toy') for _ in range(2))
  assert first.backend.to_str() == again.backend.to_str()
  assert (first.vocab_size, first.eos_id) == (300, 0)
  for text in (*texts[:2], 'Café £30 日本', '<unk> \n\n\t'):
    assert first.decode(first.encode([text])[0]) == text
  with pytest.raises(ValueError, match='vocab_size must be above 256, found 256'):
    fast_tokenizer.train_byte_level(texts, 256, 'toy')
