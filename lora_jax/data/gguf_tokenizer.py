"""The tokenizer in a GGUF file, as a tokenizer.json."""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lora_jax import gguf_reader

# How texts are split before byte-level BPE, by the file's `tokenizer.ggml.pre`.
PLAIN, DIGITS = 'gpt-2', 'smollm'
ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SPACES = r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
PATTERNS = {
  'llama-bpe': rf'{ENGLISH}\p{{N}}{{1,3}}|{SPACES}',
  'qwen2': rf'{ENGLISH}\p{{N}}|{SPACES}',
}
CONTROL = 3  # The type of a control token, of which a text holds none.


def tokenizer_json(path: pathlib.Path) -> bytes:
  """The file's tokenizer, as tokenizer.json.

  Raises:
    ValueError: naming the file, for another kind of tokenizer than byte-level BPE or another split.
  """
  fields = gguf_reader.read(path).fields
  try:
    kind, split, tokens, merges, kinds = (
      fields[f'tokenizer.ggml.{key}'].contents()
      for key in ('model', 'pre', 'tokens', 'merges', 'token_type')
    )
    if kind == 'gpt2' and split in (PLAIN, DIGITS, *PATTERNS):
      return _byte_level(split, tokens, merges, kinds).to_str().encode()
  except Exception as error:  # The libraries raise bare Exceptions.
    raise ValueError(f'{path}: its tokenizer is missing or damaged ({error!r})') from error
  raise ValueError(
    f'{path}: a tokenizer of kind {kind!r} that splits texts as {split!r}; read is gpt2, as '
    f'{", ".join([PLAIN, DIGITS, *PATTERNS])}. Give config.data.tokenizer a folder instead.'
  )


def config_json(path: pathlib.Path) -> bytes:
  """The file's chat template and the special tokens that it may name, as tokenizer_config.json."""
  fields = gguf_reader.read(path).fields
  values: dict[str, str] = {}
  for name in ('bos', 'eos'):
    if field := fields.get(f'tokenizer.ggml.{name}_token_id'):
      values[f'{name}_token'] = fields['tokenizer.ggml.tokens'].contents(int(field.contents()))
  if field := fields.get('tokenizer.chat_template'):
    values['chat_template'] = field.contents()
  return json.dumps(values).encode()


def _byte_level(
  split: str, tokens: Sequence[str], merges: Sequence[str], kinds: Sequence[int]
) -> tokenizers.Tokenizer:
  vocabulary = {token: number for number, token in enumerate(tokens)}
  pairs = [(one, other) for one, other in (merge.split(' ') for merge in merges)]
  tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
  tokenizer.pre_tokenizer = _splitter(split)
  tokenizer.decoder = decoders.ByteLevel()
  special = [token for token, kind in zip(tokens, kinds) if kind == CONTROL]
  tokenizer.add_special_tokens(special)
  return tokenizer


def _splitter(name: str) -> pre_tokenizers.PreTokenizer:
  by_bytes = functools.partial(pre_tokenizers.ByteLevel, add_prefix_space=False)
  if name == DIGITS:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_bytes()])
  if name == PLAIN:
    return by_bytes()
  pattern = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[name]), 'isolated')
  return pre_tokenizers.Sequence([pattern, by_bytes(use_regex=False)])
