"""BERT's WordPiece and byte-level BPE."""

import json
import pathlib

import pytest
import tokenizers
from tokenizers import models, normalizers

from lora_jax.data import chat, fast_tokenizer, load_tokenizer, own

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


def of_llama_2():
  """A tokenizer of Llama 2's kind: a space stands before each text, what is unknown is bytes."""
  words = ['▁', 'a', 'b', '?', '▁a', '▁b', 'ab']
  tokens = ['<unk>', '<s>', '</s>', *(f'<0x{i:02X}>' for i in range(256)), *words]
  merges = [('▁', 'a'), ('▁', 'b'), ('a', 'b')]
  vocabulary = {token: i for i, token in enumerate(tokens)}
  backend = tokenizers.Tokenizer(
    models.BPE(vocabulary, merges, unk_token='<unk>', byte_fallback=True)
  )
  steps = [normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')]
  backend.normalizer = normalizers.Sequence(steps)
  backend.add_special_tokens(tokens[:3])
  return fast_tokenizer.FastTokenizer(backend, 'llama')


@pytest.mark.parametrize(
  'before, text, names',
  [
    ('b ?', ' a', ['▁a']),
    ('b\n', 'a ?', ['a', '▁', '?']),
    ('b ', 'a', ['a']),  # Together they have the token of a space and an a.
    ('b</s>', 'a', ['▁a']),  # Llama 2 puts a space after a special token, too.
  ],
)
def test_a_text_after_another_has_the_ids_of_both(before, text, names):
  tokenizer = of_llama_2()
  with tokenizer.marked():
    (ids,), (head,) = tokenizer.encode_after([before], [text]), tokenizer.encode([before])
    (whole,) = tokenizer.encode([before + text])
  assert [tokenizer.backend.id_to_token(int(i)) for i in ids] == names
  assert [*head, *ids] == [*whole] or before == 'b '


def test_a_completion_follows_its_prompt_and_a_reply_its_opening():
  tokenizer = of_llama_2()
  (completion,) = own.plain_form(tokenizer).targets(['b ?'], [' a'])
  assert completion.tolist() == [tokenizer.id_of('▁a'), tokenizer.eos_id]
  tokenizer.template = fast_tokenizer.ChatTemplate('llama', '', {})
  (reply,) = chat.form(tokenizer).targets(['b\n'], ['a</s>'])
  assert reply.tolist() == [tokenizer.id_of('a'), tokenizer.eos_id]
  assert tokenizer.encode(['</s>'])[0].tolist() != [tokenizer.eos_id]


def test_merges_are_strings_that_older_versions_read(tmp_path):
  trained = fast_tokenizer.train_byte_level(['the quick brown fox'] * 9, 290, 'x')
  trained.save(tmp_path)
  merges = json.loads((tmp_path / 'tokenizer.json').read_text(encoding='utf-8'))['model']['merges']
  assert merges and all(isinstance(merge, str) and merge.count(' ') == 1 for merge in merges)
  again = tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  assert again.encode('the fox').ids == list(trained.encode(['the fox'])[0])
