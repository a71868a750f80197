"""Tokenizers in Hugging Face's file formats, read by the `tokenizers` library."""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

_FILES = ('tokenizer.json', 'vocab.txt', 'vocab.json', 'merges.txt', 'spm.model')
_OPTIONAL = ('config.json', 'tokenizer_config.json')


class Tokenizer:
  """Text to int32 ids and back.

  Equal to the fast tokenizers of transformers over the same files, which run the same library.
  """

  def __init__(self, backend: tokenizers.Tokenizer, name: str):
    # Some files (all-MiniLM-L6-v2) switch on truncation and padding to 128 tokens.
    backend.no_truncation()
    backend.no_padding()
    self.backend = backend
    self.name = name

  @property
  def vocab_size(self) -> int:
    """One more than the largest id."""
    return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

  @property
  def eos_id(self) -> int:
    """The token that ends a text, and a context: `<|endoftext|>` (GPT-2), else `</s>` or `[SEP]`.

    Raises:
      ValueError: if the vocabulary has none of them.
    """
    for token in ('<|endoftext|>', '</s>', '[SEP]'):
      if (token_id := self.backend.token_to_id(token)) is not None:
        return token_id
    raise ValueError(f'{self.name} has no end token: none of <|endoftext|>, </s>, [SEP]')

  def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
    """int32 ids of each text, without special tokens, uncut."""
    self.backend.no_truncation()
    encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(x.ids, np.int32) for x in encoded]

  def encode_pairs(
    self, first: Sequence[str], second: Sequence[str] | None = None, *, max_length: int
  ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """int32 ids and token types of texts or pairs, with special tokens, for an encoder.

    `[CLS] a [SEP] b [SEP]` with types 0 and 1 (BERT), `<s> a </s></s> b </s>` with 0 alone
    (RoBERTa). Cut to `max_length` tokens as Hugging Face's `longest_first` does.

    Raises:
      ValueError: if the special tokens leave no room for text.
    """
    special = self.backend.num_special_tokens_to_add(second is not None)
    if max_length <= special:
      raise ValueError(f'max_length {max_length} leaves no room: {special} tokens are special')
    texts = list(first) if second is None else list(zip(first, second, strict=True))
    self.backend.enable_truncation(max_length, strategy='longest_first')
    try:
      encoded = self.backend.encode_batch_fast(texts, add_special_tokens=True)
    finally:
      self.backend.no_truncation()
    ids = [np.array(x.ids, np.int32) for x in encoded]
    return ids, [np.array(x.type_ids, np.int32) for x in encoded]

  def decode(self, ids: Sequence[int] | np.ndarray, skip_special: bool = True) -> str:
    """The text of ids; for byte-level BPE exactly what was encoded."""
    return self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes `tokenizer.json` into a folder, which is made if needed."""
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    self.backend.save(str(path / 'tokenizer.json'))


def load_tokenizer(path: str | pathlib.Path) -> Tokenizer:
  """Reads a tokenizer from a folder or a zip archive.

  It holds `tokenizer.json`, or `vocab.txt` (BERT), or `vocab.json` and `merges.txt` (byte-level
  BPE: RoBERTa if config.json beside them or the special tokens say so, else GPT-2), or `spm.model`
  (DeBERTa-v2). The first of these that is there is read.

  Raises:
    FileNotFoundError: if there is no such folder, or none of the files in it.
    ValueError: if a file is damaged, naming it.
  """
  path = pathlib.Path(path).expanduser()
  files = read_files(path)
  config = {**_json(files, 'config.json', path), **_json(files, 'tokenizer_config.json', path)}
  try:
    if 'tokenizer.json' in files:
      file = 'tokenizer.json'
      return Tokenizer(tokenizers.Tokenizer.from_buffer(files[file]), str(path))
    if 'vocab.txt' in files:
      file = 'vocab.txt'
      return Tokenizer(_wordpiece(files[file].decode(), config), str(path))
    if 'vocab.json' in files and 'merges.txt' in files:
      file = 'vocab.json'
      vocab = json.loads(files[file])
      file = 'merges.txt'
      return Tokenizer(_byte_level(vocab, files[file].decode(), config), str(path))
    if 'spm.model' in files:
      from lora_jax.data.sentence_piece import SentencePiece

      file = 'spm.model'
      if config.get('split_by_punct'):
        raise ValueError('split_by_punct is not supported')
      lowercase = config.get('do_lower_case', False)
      return SentencePiece(files[file], str(path), lowercase=lowercase)
  except Exception as error:  # The library raises bare Exceptions.
    raise ValueError(f'{path}: cannot read {file} ({error}); fetch it again') from error
  raise FileNotFoundError(
    f'{path}: expected tokenizer.json, or vocab.txt, or vocab.json and merges.txt, or spm.model; '
    f'found {", ".join(sorted(files)) or "none of them"}'
  )


def train_byte_level(texts: Iterable[str], vocab_size: int, name: str) -> Tokenizer:
  """A byte-level BPE trained on texts: GPT-2's kind, with its end token as id 0.

  Args:
    vocab_size: at least 257: the bytes and the end token. Of few texts the result may be smaller.
    name: what errors call it.

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
  return Tokenizer(backend, name)


def read_files(path: pathlib.Path) -> dict[str, bytes]:
  """The files that describe a tokenizer, by name, from a folder or an archive.

  `config.json`, the model's, is among them if it is there.
  """
  wanted = (*_FILES, *_OPTIONAL)
  if path.is_dir():
    return {name: (path / name).read_bytes() for name in wanted if (path / name).is_file()}
  if not path.is_file():
    raise FileNotFoundError(f'no tokenizer at {path}: expected a folder or a zip archive')
  try:
    with zipfile.ZipFile(path) as archive:
      names = {pathlib.PurePosixPath(name).name: name for name in reversed(archive.namelist())}
      return {name: archive.read(names[name]) for name in wanted if name in names}
  except (zipfile.BadZipFile, EOFError, OSError) as error:
    raise ValueError(f'{path} is truncated or no zip archive ({error}); fetch it again') from error


def _json(files: Mapping[str, bytes], name: str, path: pathlib.Path) -> dict:
  if name not in files:
    return {}
  try:
    return json.loads(files[name])
  except ValueError as error:
    raise ValueError(f'{path}: {name} is not JSON ({error})') from error


def _wordpiece(text: str, config: Mapping) -> tokenizers.Tokenizer:
  """BERT's tokenizer; lower-casing is read from the vocabulary where no configuration says."""
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


def _byte_level(vocab: dict[str, int], merges: str, config: Mapping) -> tokenizers.Tokenizer:
  """GPT-2's byte-level BPE, with RoBERTa's special tokens where it is RoBERTa's."""
  lines = [line for line in merges.split('\n') if line and not line.startswith('#version')]
  pairs = [tuple(line.removesuffix('\r').split(' ')) for line in lines]
  if bad := [' '.join(pair) for pair in pairs if len(pair) != 2]:
    raise ValueError(f'expected two symbols in each line, found {bad[0]!r}')
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
