"""The tokenizer in a GGUF file, as a tokenizer.json."""

from __future__ import annotations

import functools
import pathlib

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
  get = lambda key: fields[f'tokenizer.ggml.{key}'].contents()
  try:
    kind, split = get('model'), get('pre')
    tokens, merges, kinds = get('tokens'), get('merges'), get('token_type')
  except KeyError as error:
    raise ValueError(f'{path}: its header has no {error}') from None
  if kind != 'gpt2' or split not in (PLAIN, DIGITS, *PATTERNS):
    raise ValueError(
      f'{path}: a tokenizer of kind {kind!r} that splits texts as {split!r}; read is gpt2, as '
      f'{", ".join([PLAIN, DIGITS, *PATTERNS])}. Give config.data.tokenizer a folder instead.'
    )
  vocabulary = {token: number for number, token in enumerate(tokens)}
  pairs = [tuple(merge.split(' ')) for merge in merges]
  tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
  tokenizer.pre_tokenizer = _splitter(split)
  tokenizer.decoder = decoders.ByteLevel()
  special = [token for token, kind in zip(tokens, kinds) if kind == CONTROL]
  tokenizer.add_special_tokens(special)
  return tokenizer.to_str().encode()


def _splitter(name: str) -> pre_tokenizers.PreTokenizer:
  by_bytes = functools.partial(pre_tokenizers.ByteLevel, add_prefix_space=False)
  if name == DIGITS:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_bytes()])
  if name == PLAIN:
    return by_bytes()
  pattern = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[name]), 'isolated')
  return pre_tokenizers.Sequence([pattern, by_bytes(use_regex=False)])
