"""Tokenizers from Hugging Face's files: `load_tokenizer`."""

from __future__ import annotations

import contextlib
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import tokenizers

from lora_jax import gguf_reader, provenance
from lora_jax.data import gguf_tokenizer
from lora_jax.data.fast_tokenizer import ChatTemplate, FastTokenizer, byte_level, wordpiece
from lora_jax.data.sentence_piece import SentencePiece
from lora_jax.data.tokenizer import Tokenizer
from lora_jax.files import on_disk

# The file that holds a tokenizer's rules, and all files that it needs, in the order of preference.
_NEEDED = {
  'tokenizer.json': {'tokenizer.json'},
  'vocab.txt': {'vocab.txt'},
  'merges.txt': {'vocab.json', 'merges.txt'},
  'spm.model': {'spm.model'},
}
_FILES = ('tokenizer.json', 'vocab.txt', 'vocab.json', 'merges.txt', 'spm.model')
_OPTIONAL = ('config.json', 'tokenizer_config.json')
TEMPLATE = 'chat_template.jinja'  # Noted by the task that uses it.
TOKENS = 'special_tokens_map.json'  # Older folders name the special tokens there alone.
GENERATION = 'generation_config.json'


def load_tokenizer(path: str | pathlib.Path) -> Tokenizer:
  """Reads a tokenizer from a folder, a zip archive or a GGUF file.

  It holds `tokenizer.json`, or `vocab.txt` (BERT), or `vocab.json` and `merges.txt` (byte-level
  BPE: RoBERTa's if a config.json beside them or the special tokens say so, else GPT-2's), or
  `spm.model` (DeBERTa-v2). If it holds several of these, the first is read.

  Raises:
    FileNotFoundError: if there is no such folder, or none of the files in it.
    ValueError: if a file is damaged, naming it.
  """
  path = on_disk(path)
  files = read_files(path)
  of_chats = {TEMPLATE, TOKENS}
  if gguf_reader.find(path):
    of_chats.add('tokenizer_config.json')
  for name in files.keys() - of_chats:
    provenance.note(path / name, name, files[name])
  config = _json(files, 'config.json', path)
  config |= _json(files, TOKENS, path) | _json(files, 'tokenizer_config.json', path)
  file = next((name for name, needed in _NEEDED.items() if needed <= files.keys()), '')
  if not file:
    raise FileNotFoundError(
      f'{path}: expected tokenizer.json, or vocab.txt, or vocab.json and merges.txt, or spm.model; '
      f'found {", ".join(sorted(files)) or "none of them"}'
    )
  vocab = _json(files, 'vocab.json', path) if file == 'merges.txt' else {}
  try:
    if file == 'spm.model':
      return _sentence_piece(files[file], config, str(path))
    backend = {
      'tokenizer.json': lambda content: tokenizers.Tokenizer.from_buffer(content),
      'vocab.txt': lambda content: wordpiece(content.decode(), config),
      'merges.txt': lambda content: byte_level(vocab, content.decode(), config),
    }[file](files[file])
    return FastTokenizer(backend, str(path), _template(files, config, path))
  except Exception as error:  # The libraries raise bare Exceptions.
    raise _damaged(path, file, error) from error


def read_files(path: pathlib.Path) -> dict[str, bytes]:
  """The files that describe a tokenizer, by name, from a folder or an archive.

  The model's `config.json` is among them if it is there.

  Raises:
    FileNotFoundError: if there is neither a folder nor an archive at `path`.
    ValueError: if the archive is damaged.
  """
  wanted = (*_FILES, *_OPTIONAL, TEMPLATE, TOKENS)
  if file := gguf_reader.find(path):
    return {
      'tokenizer.json': gguf_tokenizer.tokenizer_json(file),
      'tokenizer_config.json': gguf_tokenizer.config_json(file),
    }
  if path.is_dir():
    return {name: (path / name).read_bytes() for name in wanted if (path / name).is_file()}
  if not path.is_file():
    raise FileNotFoundError(f'no tokenizer at {path}: expected a folder or a zip archive')
  try:
    with zipfile.ZipFile(path) as archive:
      names = {pathlib.PurePosixPath(name).name: name for name in reversed(archive.namelist())}
      return {name: archive.read(names[name]) for name in wanted if name in names}
  except (zipfile.BadZipFile, EOFError, OSError) as error:
    raise ValueError(
      f'{path} is truncated or not a zip archive ({error}). Download it again.'
    ) from error


def special_ids(path: str | pathlib.Path) -> dict[str, int | list[int]]:
  """What a language model's config.json says of the ends of texts, for transformers' `generate`.

  Without it a Llama of any vocabulary ends at token 2, the default of its class.

  Args:
    path: as for `load_tokenizer`; the config.json and generation_config.json of the base count, if
      they lie there.

  Returns:
    `bos_token_id`, `eos_token_id` and `pad_token_id`, as far as they are known. A text ends with
    the token that training writes (`Tokenizer.eos_id`), and with those that the base has ended
    with; without a token for padding it is the first of these.
  """
  path = pathlib.Path(path).expanduser()
  tokenizer, files = load_tokenizer(path), read_files(path)
  if (path / GENERATION).is_file():
    files[GENERATION] = (path / GENERATION).read_bytes()
  found: dict[str, list[int]] = {'bos': [], 'eos': [], 'pad': []}
  with contextlib.suppress(ValueError):  # It has none: no texts are trained, but classes.
    found['eos'].append(tokenizer.eos_id)
  for name in ('config.json', GENERATION):
    values = _json(files, name, path)
    for kind, ids in found.items():
      value = values.get(f'{kind}_token_id')
      ids += value if isinstance(value, list) else [] if value is None else [value]
  named = _json(files, TOKENS, path) | _json(files, 'tokenizer_config.json', path)
  tokens = _special_tokens(named)
  for kind, ids in found.items():
    one = tokenizer.id_of(tokens.get(f'{kind}_token', ''))
    ids += [] if one is None else [one]
  first = {'bos': found['bos'][:1], 'pad': (found['pad'] or found['eos'])[:1]}
  special: dict[str, int | list[int]] = {
    f'{kind}_token_id': ids[0] for kind, ids in first.items() if ids
  }
  if ends := sorted(set(found['eos'])):
    special['eos_token_id'] = ends if len(ends) > 1 else ends[0]
  return special


def _special_tokens(config: Mapping[str, object]) -> dict[str, str]:
  """The names of the special tokens of a tokenizer_config.json, by `eos_token` and so on."""
  tokens = {}
  for key, value in config.items():
    name = value.get('content') if isinstance(value, dict) else value
    if key.endswith('_token') and isinstance(name, str):
      tokens[key] = name
  return tokens


def _json(files: Mapping[str, bytes], name: str, path: pathlib.Path) -> dict[str, Any]:
  """What a JSON file holds; nothing if the file is not there."""
  if name not in files:
    return {}
  try:
    return json.loads(files[name])
  except (ValueError, RecursionError) as error:
    raise _damaged(path, name, error) from error


def _template(
  files: Mapping[str, bytes], config: Mapping[str, Any], path: pathlib.Path
) -> ChatTemplate | None:
  """The template in a file of its own, else that of tokenizer_config.json; None without one."""
  tokens = _special_tokens(config)
  if TEMPLATE in files:
    return ChatTemplate(str(path / TEMPLATE), files[TEMPLATE].decode(), tokens)
  found = config.get('chat_template')
  if isinstance(found, list):  # Several, by name.
    found = {one['name']: one['template'] for one in found}.get('default')
  if not isinstance(found, str):
    return None
  return ChatTemplate(str(path), found, tokens)


def _sentence_piece(content: bytes, config: Mapping[str, Any], name: str) -> SentencePiece:
  if config.get('split_by_punct'):
    raise ValueError('split_by_punct is not supported')
  return SentencePiece(content, name, lowercase=config.get('do_lower_case', False))


def _damaged(path: pathlib.Path, file: str, error: Exception) -> ValueError:
  return ValueError(f'{path}: cannot read {file} ({error}). Download it again.')
