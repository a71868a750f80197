"""The tokenizer in a GGUF file, as a tokenizer.json.

A file names the split of texts, from which llama.cpp knows more of the tokenizer (llama-vocab.cpp);
the tokens are those of the Hugging Face folder that the file was made of.
"""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lora_jax import gguf_reader

# How texts are split before byte-level BPE, by the file's `tokenizer.ggml.pre`.
PLAIN, DIGITS, LLAMA, QWEN = 'gpt-2', 'smollm', 'llama-bpe', 'qwen2'
ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SPACES = r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
PATTERNS = {
  LLAMA: rf'{ENGLISH}\p{{N}}{{1,3}}|{SPACES}',
  QWEN: rf'{ENGLISH}\p{{N}}|{SPACES}',
}
# Types of tokens: control tokens, of which a text holds none, and added ones that a text may hold.
CONTROL, ADDED = 3, 4


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
      tokenizer = _byte_level(split, tokens, merges, kinds)
      field = fields.get('tokenizer.ggml.add_bos_token')
      if split == LLAMA if field is None else field.contents():
        _begin(tokenizer, tokens[int(fields['tokenizer.ggml.bos_token_id'].contents())])
      return tokenizer.to_str().encode()
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
  # Llama 3 has words that no merges lead to.
  model = models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=split == LLAMA)
  tokenizer = tokenizers.Tokenizer(model)
  if split == QWEN:
    tokenizer.normalizer = normalizers.NFC()
  tokenizer.pre_tokenizer = _splitter(split)
  tokenizer.decoder = decoders.ByteLevel()
  special = [token for token, kind in zip(tokens, kinds) if kind == CONTROL]
  tokenizer.add_special_tokens(special)
  added = [token for token, kind in zip(tokens, kinds) if kind == ADDED]
  tokenizer.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in added])
  return tokenizer


def _begin(tokenizer: tokenizers.Tokenizer, token: str) -> None:
  """Puts the token that begins a text before each, where special tokens are wanted."""
  tokenizer.post_processor = processors.TemplateProcessing(
    single=f'{token} $A',
    pair=f'{token} $A {token}:1 $B:1',
    special_tokens=[(token, tokenizer.token_to_id(token))],
  )


def _splitter(name: str) -> pre_tokenizers.PreTokenizer:
  by_bytes = functools.partial(pre_tokenizers.ByteLevel, add_prefix_space=False)
  if name == DIGITS:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_bytes()])
  if name == PLAIN:
    return by_bytes()
  pattern = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[name]), 'isolated')
  return pre_tokenizers.Sequence([pattern, by_bytes(use_regex=False)])
