"""The tokenizer in a GGUF file: its splits, its control tokens, and that it is saved as JSON."""

import pytest

from lora_jax.data import tokenizer_files
from tests.pretrained.gguf_toys import write

TEXT = "the 12 the<|endoftext|>n 123\n\n it's"


def read(tmp_path, **options):
  """The tokenizer of a file that `write` makes with these options."""
  path = tmp_path / 'model.gguf'
  write(path, 'llama-untied', **options)
  return tokenizer_files.load_tokenizer(path)


def names(tokenizer, text):
  (ids,) = tokenizer.encode([text])
  return [tokenizer.backend.id_to_token(int(i)) for i in ids]


@pytest.mark.parametrize(
  'split, tokens',
  [
    ('smollm', ['the', 'Ġ', '1', '2', 'Ġ', 'the']),  # Each digit by itself.
    ('gpt-2', ['the', 'Ġ', '12', 'Ġ', 'the']),
    ('qwen2', ['the', 'Ġ', '1', '2', 'Ġ', 'the']),
    ('llama-bpe', ['the', 'Ġ', '12', 'Ġ', 'the']),
  ],
)
def test_texts_are_split_as_the_file_says(tmp_path, split, tokens):
  tokenizer = read(tmp_path, split=split)
  assert names(tokenizer, 'the 12 the') == tokens
  assert tokenizer.eos_id == 0
  (ids,) = tokenizer.encode([TEXT])
  assert tokenizer.decode(ids, skip_special=False) == TEXT
  tokenizer.save(tmp_path / 'saved')
  again = tokenizer_files.load_tokenizer(tmp_path / 'saved')
  assert [x.tolist() for x in again.encode([TEXT])] == [ids.tolist()]


@pytest.mark.parametrize(
  'split, tokens',
  [
    ('smollm', ['<think>', 'the', 'Ġ', 'h', 'e', 'n', 'e', 'Ì', 'ģ']),
    ('qwen2', ['<think>', 'the', 'Ġ', 'h', 'e', 'n', 'Ã', '©']),  # Composed, as Qwen2's.
    ('llama-bpe', ['<think>', 'the', 'Ġ', 'h', 'e', 'n', 'e', 'Ì', 'ģ']),
  ],
)
def test_tokens_that_were_added_are_tokens_of_a_text(tmp_path, split, tokens):
  tokenizer = read(tmp_path, split=split)
  assert names(tokenizer, '<think>the hene\u0301') == tokens
  assert '<think>' not in tokenizer.special_tokens


@pytest.mark.parametrize('split, tokens', [('qwen2', ['h', 'e', 'n']), ('llama-bpe', ['hen'])])
def test_a_word_of_llama_3_needs_no_merges(tmp_path, split, tokens):
  tokenizer = read(tmp_path, split=split)
  assert names(tokenizer, 'hen') == tokens


@pytest.mark.parametrize(
  'split, said, begins',
  [
    ('smollm', None, False),
    ('smollm', True, True),
    ('llama-bpe', None, True),
    ('llama-bpe', False, False),
  ],
)
def test_texts_begin_as_the_file_says(tmp_path, split, said, begins):
  tokenizer = read(tmp_path, split=split, bos=said)
  bos, the = (tokenizer.id_of(token) for token in ('<|im_end|>', 'the'))
  ids, _ = tokenizer.encode_pairs(['the'], ['the'], max_length=8)
  assert ids[0].tolist() == ([bos, the, bos, the] if begins else [the, the])
  assert tokenizer.encode(['the'])[0].tolist() == [the]


def test_another_split_is_refused(tmp_path):
  path = tmp_path / 'model.gguf'
  write(path, 'llama-untied', split='deepseek-llm')
  with pytest.raises(
    ValueError, match="splits texts as 'deepseek-llm'; read is gpt2, as gpt-2, sm"
  ):
    tokenizer_files.load_tokenizer(path)
