"""Tokenizers of the `tokenizers` library: BERT's WordPiece, and byte-level BPE."""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from lora_jax.data.tokenizer import Tokenizer, check_room

# The tokens that end a text, in the order of preference: GPT-2's, Llama 2's, BERT's, Llama 3's.
ENDS = ('<|endoftext|>', '</s>', '[SEP]', '<|end_of_text|>')


class ChatTemplate(NamedTuple):
  """How a model writes a chat: a Jinja template.

  Attributes:
    name: where it was read from.
    source: its text, which is untrusted.
    tokens: the special tokens that it may name, as `bos_token`.
  """

  name: str
  source: str
  tokens: dict[str, str]


class FastTokenizer(Tokenizer):
  """Text to int32 ids and back, as the fast tokenizers of transformers, which run this library.

  Unlike there, the name of a special token in a text is text.
  """

  def __init__(
    self, backend: tokenizers.Tokenizer, name: str, template: ChatTemplate | None = None
  ):
    # Some files (all-MiniLM-L6-v2) switch on truncation and padding to 128 tokens.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # As text, where a text has the name of one.
    self.backend = backend
    self.name = name
    self.template = template

  @property
  def special_tokens(self) -> list[str]:
    """The names of the special tokens."""
    added = self.backend.get_added_tokens_decoder().values()
    return [token.content for token in added if token.special]

  @property
  def vocab_size(self) -> int:
    return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

  @property
  def eos_id(self) -> int:
    for token in ENDS:
      if (token_id := self.backend.token_to_id(token)) is not None:
        return token_id
    raise ValueError(f'{self.name} has no end token: none of {", ".join(ENDS)}')

  def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
    self.backend.no_truncation()
    encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(x.ids, np.int32) for x in encoded]

  def encode_after(self, before: Sequence[str], texts: Sequence[str]) -> list[np.ndarray]:
    """As `encode`, of texts that each follow another one: with it, the ids are those of both.

    Where a token would lie in both, a text is encoded as one that follows a line's end.
    """
    if not self._opens_with_space:
      return self.encode(texts)

    def rest(heads: Sequence[str]) -> list[np.ndarray | None]:
      both = self.encode([head + text for head, text in zip(heads, texts, strict=True)])
      return [
        ids[len(head) :] if np.array_equal(ids[: len(head)], head) else None
        for head, ids in zip(self.encode(heads), both)
      ]

    found = zip(rest(before), rest(['\n'] * len(texts)), self.encode(texts))
    return [next(ids for ids in tries if ids is not None) for tries in found]

  @contextlib.contextmanager
  def marked(self) -> Iterator[None]:
    """Makes the name of a special token in a text the token."""
    self.backend.encode_special_tokens = False
    try:
      yield
    finally:
      self.backend.encode_special_tokens = True

  @functools.cached_property
  def _opens_with_space(self) -> bool:
    """Whether each text is read with a space before it, as by Llama 2's and Mistral's."""
    text, splitter = 'a', self.backend.pre_tokenizer
    if self.backend.normalizer is not None:
      text = self.backend.normalizer.normalize_str(text)
    if splitter is not None:
      text = ''.join(piece for piece, _ in splitter.pre_tokenize_str(text))
    return text != 'a'

  def id_of(self, token: str) -> int | None:
    return self.backend.token_to_id(token)

  def encode_pairs(
    self, first: Sequence[str], second: Sequence[str] | None = None, *, max_length: int
  ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    special = self.backend.num_special_tokens_to_add(second is not None)
    check_room(max_length, special)
    texts = list(first) if second is None else list(zip(first, second, strict=True))
    self.backend.enable_truncation(max_length, strategy='longest_first')
    try:
      encoded = self.backend.encode_batch_fast(texts, add_special_tokens=True)
    finally:
      self.backend.no_truncation()
    ids = [np.array(x.ids, np.int32) for x in encoded]
    return ids, [np.array(x.type_ids, np.int32) for x in encoded]

  def decode(self, ids: Sequence[int] | np.ndarray, skip_special: bool = True) -> str:
    # Byte-level BPE gives exactly the text that was encoded.
    return self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)

  def save(self, folder: str | pathlib.Path) -> None:
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    values = json.loads(self.backend.to_str())
    # As strings, which every version of the library reads; those before 0.20 read no pairs. A merge
    # of a part with a space, which byte-level BPE does not have, can only be a pair.
    merges = values['model'].get('merges', [])
    if not any(' ' in part for merge in merges for part in merge if isinstance(merge, list)):
      joined = [' '.join(merge) if isinstance(merge, list) else merge for merge in merges]
      values['model'] |= {'merges': joined} if merges else {}
    text = json.dumps(values, indent=2, ensure_ascii=False)
    (path / 'tokenizer.json').write_text(text, encoding='utf-8')


def train_byte_level(texts: Iterable[str], vocab_size: int, name: str) -> FastTokenizer:
  """Trains a byte-level BPE on texts: GPT-2's kind, with its end token as id 0.

  Args:
    texts: the texts.
    vocab_size: at least 257: the bytes and the end token. Few texts may give a smaller vocabulary.
    name: the tokenizer's name in errors.

  Raises:
    ValueError: if the size is too small.
  """
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  if vocab_size <= len(alphabet):
    raise ValueError(f'vocab_size must be above {len(alphabet)}, found {vocab_size}')
  backend = tokenizers.Tokenizer(models.BPE())
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  backend.post_processor = processors.ByteLevel(trim_offsets=False)
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=['<|endoftext|>'],
    initial_alphabet=alphabet,
    show_progress=False,
  )
  backend.train_from_iterator(texts, trainer)
  return FastTokenizer(backend, name)


def wordpiece(text: str, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
  """BERT's tokenizer from its vocabulary, one entry a line.

  If the configuration does not say whether to lower-case, a vocabulary without capitals does.
  """
  words = text.removesuffix('\n').split('\n')
  vocab = {word.removesuffix('\r'): i for i, word in enumerate(words)}
  if missing := [token for token in ('[UNK]', '[CLS]', '[SEP]') if token not in vocab]:
    raise ValueError(f'no {", ".join(missing)} among {len(vocab)} entries')
  cased = any(word != word.lower() for word in vocab if not word.startswith('['))
  backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token='[UNK]'))
  backend.normalizer = normalizers.BertNormalizer(
    lowercase=config.get('do_lower_case', not cased),
    handle_chinese_chars=config.get('tokenize_chinese_chars', True),
    strip_accents=config.get('strip_accents'),
  )
  backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  backend.post_processor = processors.TemplateProcessing(
    single='[CLS]:0 $A:0 [SEP]:0',
    pair='[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1',
    special_tokens=[('[CLS]', vocab['[CLS]']), ('[SEP]', vocab['[SEP]'])],
  )
  backend.decoder = decoders.WordPiece()
  special = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
  backend.add_special_tokens([token for token in special if token in vocab])
  return backend


def byte_level(
  vocab: dict[str, int], merges: str, config: Mapping[str, Any]
) -> tokenizers.Tokenizer:
  """GPT-2's byte-level BPE, with RoBERTa's special tokens if it is RoBERTa's."""
  lines = [line for line in merges.split('\n') if line and not line.startswith('#version')]
  pairs = []
  for line in lines:
    symbols = line.removesuffix('\r').split(' ')
    if len(symbols) != 2:
      raise ValueError(f'expected two symbols in each line, found {" ".join(symbols)!r}')
    pairs.append((symbols[0], symbols[1]))
  backend = tokenizers.Tokenizer(models.BPE(vocab, pairs))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  roberta = '<s>' in vocab and '</s>' in vocab
  if 'model_type' in config:
    roberta = config['model_type'] == 'roberta'
  if not roberta:
    special = [token for token in ('<|endoftext|>',) if token in vocab]
    backend.add_special_tokens(special)
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend
  special = ('<s>', '<pad>', '</s>', '<unk>', '<mask>')
  backend.add_special_tokens([token for token in special if token in vocab])
  backend.post_processor = processors.RobertaProcessing(
    ('</s>', vocab['</s>']), ('<s>', vocab['<s>']), trim_offsets=True, add_prefix_space=False
  )
  return backend
