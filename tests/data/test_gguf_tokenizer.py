"""The tokenizer in a GGUF file: its splits, its control tokens, and that it is saved as JSON."""

import pytest

from lora_jax.data import tokenizer_files
from tests.pretrained.gguf_toys import write

TEXT = "the 12 the<|endoftext|>n 123\n\n it's"


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
  path = tmp_path / 'model.gguf'
  write(path, 'llama-untied', split=split)
  tokenizer = tokenizer_files.load_tokenizer(path)
  (ids,) = tokenizer.encode(['the 12 the'])
  assert [tokenizer.backend.id_to_token(int(i)) for i in ids] == tokens
  assert tokenizer.eos_id == 0
  (ids,) = tokenizer.encode([TEXT])
  assert tokenizer.decode(ids, skip_special=False) == TEXT
  tokenizer.save(tmp_path / 'saved')
  again = tokenizer_files.load_tokenizer(tmp_path / 'saved')
  assert [x.tolist() for x in again.encode([TEXT])] == [ids.tolist()]


def test_another_split_is_refused(tmp_path):
  path = tmp_path / 'model.gguf'
  write(path, 'llama-untied', split='deepseek-llm')
  with pytest.raises(
    ValueError, match="splits texts as 'deepseek-llm'; read is gpt2, as gpt-2, sm"
  ):
    tokenizer_files.load_tokenizer(path)
