r"""Answers requests for several adapters of one base, in mixed batches.

  python -m experiments.serve --base=FOLDER --adapters=mrpc=FOLDER --adapters=sst2=FOLDER \
      --requests=FILE

An adapter's folder is a run directory or an artefact of experiments.export. A request is a line of
JSON, from a file, or from standard input with `--requests=-`:

  {"adapter": "mrpc", "text": "He left.", "text_pair": "He went."}     text_pair where it has one

The answers come to standard output, a line for each line, in their order:

  {"adapter": "mrpc", "label": 1, "scores": [0.1, 0.9]}     the class and the probability of each
  {"adapter": "stsb", "score": 3.2}                          of a regression
  {"line": 3, "error": "..."}                                for a line that is no request

What has arrived is answered together. At the end, standard error gets a line of JSON: requests,
errors, tokens, seconds, those of them that compiling took, compiled programs, and requests and
tokens a second without compiling. A program is compiled for each length (16, 32, 64, ... tokens)
and number of rows (--rows, and an eighth of it for a few) when it first occurs.
"""

from __future__ import annotations

import json
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import flax.linen as nn
import numpy as np
from absl import flags

from experiments import _cli
from lora_jax import serving, tree
from lora_jax.adapters import native
from lora_jax.adapters.adapter import Adapter
from lora_jax.data import sources, tokenizers
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import run_adapter, rundir

BASE = flags.DEFINE_string('base', None, 'Model folder or preset.', required=True)
ADAPTERS = flags.DEFINE_multi_string('adapters', None, 'NAME=FOLDER; repeated.', required=True)
REQUESTS = flags.DEFINE_string('requests', '-', 'File of requests, or - for standard input.')
TOKENIZER = flags.DEFINE_string('tokenizer', '', "Folder or archive; empty for the base's own.")
ROWS = flags.DEFINE_integer('rows', 32, 'Texts of a full batch.', lower_bound=1)
MAX_LENGTH = flags.DEFINE_integer('max_length', 0, "Most tokens of a text; 0: the model's.")
OTHER_BASE = flags.DEFINE_bool('other_base', False, 'Adapters may be of another base.')

KEYS = ('adapter', 'text', 'text_pair')
WINDOW = 32  # Full batches of lines that are answered together at most.
WAIT = 0.02  # Seconds without a further line after which those that have come are answered.
LONGEST_TEXT = 1 << 20  # Tokens: enough to say how long a text is that is too long.


class Request(NamedTuple):
  adapter: str
  text: str
  text_pair: str | None


class Server(NamedTuple):
  """What answers: the bank, what each adapter computes, and the limits of a text."""

  bank: serving.Bank
  tasks: Mapping[str, str]
  tokenizer: tokenizers.Tokenizer
  max_length: int
  rows: int


def main() -> None:
  count = {'requests': 0, 'errors': 0, 'tokens': 0}
  seconds = 0.0
  with open(sys.stdin.fileno() if REQUESTS.value == '-' else REQUESTS.value, 'rb') as stream:
    server = load(
      BASE.value, folders(ADAPTERS.value), tokenizer=TOKENIZER.value, max_length=MAX_LENGTH.value,
      rows=ROWS.value, other_base=OTHER_BASE.value,
    )  # fmt: skip
    for lines in windows(stream, WINDOW * server.rows):
      began = time.perf_counter()
      answers, tokens = answer(server, lines, first=count['requests'] + 1)
      sys.stdout.write(''.join(json.dumps(x, ensure_ascii=False) + '\n' for x in answers))
      sys.stdout.flush()
      seconds += time.perf_counter() - began
      count['requests'] += len(lines)
      count['errors'] += sum('error' in x for x in answers)
      count['tokens'] += tokens
  answering = max(seconds - server.bank.compiling, 1e-9)
  report = count | {
    'seconds': seconds,
    'compiling': server.bank.compiling,
    'compilations': server.bank.compilations,
    'requests_per_second': count['requests'] / answering,
    'tokens_per_second': count['tokens'] / answering,
  }
  rounded = {key: round(x, 3) if isinstance(x, float) else x for key, x in report.items()}
  print(json.dumps(rounded), file=sys.stderr)


def folders(pairs: Sequence[str]) -> dict[str, str]:
  """Folders by name, of NAME=FOLDER."""
  found: dict[str, str] = {}
  for pair in pairs:
    name, equals, folder = pair.partition('=')
    if not (name and equals and folder):
      raise ValueError(f'--adapters: {pair!r} is not of the form NAME=FOLDER')
    if name in found:
      raise ValueError(f'--adapters: {name!r} is there twice')
    found[name] = folder
  if not found:
    raise ValueError('--adapters is empty: give at least one NAME=FOLDER')
  return found


def load(
  base: str,
  named: Mapping[str, str],
  *,
  tokenizer: str = '',
  max_length: int = 0,
  rows: int = 32,
  other_base: bool = False,
) -> Server:
  """Loads the base and the adapters into a bank.

  Raises:
    ValueError: for a base that is no encoder, a tokenizer of more tokens than the base has, or an
      adapter that cannot be loaded or served, naming it.
    OSError: if a file cannot be read.
  """
  loaded = {name: read_adapter(name, folder) for name, folder in named.items()}
  model, params = read_base(base)
  words = tokenizers.load_tokenizer(tokenizer or huggingface.locate(base))
  if words.vocab_size > model.config.vocab_size:
    raise ValueError(
      f'the tokenizer {words.name} has ids up to {words.vocab_size - 1}, the base {base} '
      f'{model.config.vocab_size} embeddings: it is the tokenizer of another model'
    )
  limit = model.config.max_positions
  if not 0 <= max_length <= limit:
    raise ValueError(f'--max_length={max_length}: the model has {limit} positions')
  for name, adapter in loaded.items():
    trained = tree.paths(adapter.trainable)
    if not any(re.fullmatch(pattern, path) for pattern in model.head for path in trained):
      raise ValueError(f'adapter {name!r} ({named[name]}) brings no head to answer with')
  bank = serving.Bank.of(model, params, loaded, other_base=other_base)
  kinds = {name: adapter.task for name, adapter in loaded.items()}
  return Server(bank, kinds, words, max_length or limit, rows)


def read_adapter(name: str, folder: str) -> Adapter:
  """The adapter of a run directory or an artefact."""
  try:
    if rundir.is_run(folder):
      return run_adapter.from_run(folder)
    return native.load_adapter(folder)
  except (ValueError, OSError) as error:
    raise ValueError(f'adapter {name!r}: {error}') from error


def read_base(name: str) -> tuple[nn.Module, tree.Params]:
  """The base with its own head, or a fresh one that no adapter answers by.

  Raises:
    ValueError: if it is no encoder, or cannot be loaded.
  """
  if rundir.is_run(name):
    raise ValueError(
      f'--base={name} is a run directory: give the base that its adapter was trained on, or export '
      'it merged, as a folder in Hugging Face layout'
    )
  family = huggingface.read_config(huggingface.locate(name)).family
  if 'classification' not in presets.TASKS[family]:
    raise ValueError(f'--base={name} is a {family} model, which classifies nothing')
  return huggingface.load_model(name, task='classification')


def windows(stream: BinaryIO, most: int, wait: float = WAIT) -> Iterator[list[bytes]]:
  """Lines that have come, at most `most` at a time; waits for the first of each, then `wait`."""
  arrived: queue.Queue[bytes | OSError | None] = queue.Queue(2 * most)

  def read() -> None:
    try:
      for line in stream:
        arrived.put(line)
      arrived.put(None)
    except OSError as error:
      arrived.put(error)

  threading.Thread(target=read, daemon=True).start()
  lines: list[bytes] = []
  while True:
    try:
      line = arrived.get(timeout=wait if lines else None)
    except queue.Empty:
      line = b''  # No line of the stream is: nothing more for now.
    if isinstance(line, OSError):
      raise line
    if line:
      lines.append(line)
    if lines and (not line or len(lines) == most):
      yield lines
      lines = []
    if line is None:
      return


def answer(
  server: Server, lines: Sequence[bytes], first: int = 1
) -> tuple[list[dict[str, Any]], int]:
  """An answer or an error for each line, and the number of tokens that were answered.

  Args:
    server: what answers.
    lines: requests.
    first: number of the first line, for errors.
  """
  answers: list[dict[str, Any]] = [{} for _ in lines]
  requests: dict[int, Request] = {}
  for i, line in enumerate(lines):
    try:
      requests[i] = parse(line, server.bank)
    except ValueError as error:
      answers[i] = {'line': first + i, 'error': str(error)}
  ids, types = encode(server.tokenizer, requests)
  for i in [i for i in requests if len(ids[i]) > server.max_length]:
    answers[i] = {
      'line': first + i,
      'error': f'text of {len(ids[i])} tokens, the most are {server.max_length}',
    }
    del requests[i]
  order = list(requests)
  names = [requests[i].adapter for i in order]
  logits = serving.respond(
    server.bank, names, [ids[i] for i in order], [types[i] for i in order], rows=server.rows
  )
  for i, name, row in zip(order, names, logits):
    row = row[: server.bank.labels(name)].astype(np.float64)
    if server.tasks[name] == 'regression':
      answers[i] = {'adapter': name, 'score': round(float(row[0]), 6)}
    else:
      scores = np.exp(row - row.max())
      scores = [round(float(score), 6) for score in scores / scores.sum()]
      answers[i] = {'adapter': name, 'label': int(row.argmax()), 'scores': scores}
  return answers, sum(len(ids[i]) for i in order)


def parse(line: bytes, bank: serving.Bank) -> Request:
  """A line as a request.

  Raises:
    ValueError: that says what is wrong with it.
  """
  try:
    values = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'no JSON ({error})') from None
  if not isinstance(values, dict):
    raise ValueError(f'expected an object with {", ".join(KEYS)}, found {type(values).__name__}')
  for key in values:
    if key not in KEYS:
      raise ValueError(f'unknown key {key!r}{sources.nearest(key, KEYS)}')
  pair = values.get('text_pair')
  for key in KEYS if pair is not None else KEYS[:2]:
    if key not in values:
      raise ValueError(f'no {key!r}: a request has adapter and text')
    if not isinstance(values[key], str):
      raise ValueError(f'{key!r} is {type(values[key]).__name__}, expected a string')
    try:
      values[key].encode()
    except UnicodeEncodeError:
      raise ValueError(f'{key!r} holds half of a surrogate pair') from None
  if values['adapter'] == serving.BASE:
    raise ValueError(f'{serving.BASE!r} is the base alone, which has no head to answer with')
  bank.labels(values['adapter'])
  return Request(values['adapter'], values['text'], pair)


def encode(
  tokenizer: tokenizers.Tokenizer, requests: Mapping[int, Request]
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
  """Token ids and types, uncut."""
  ids, types = {}, {}
  for paired in (False, True):
    mine = [i for i, request in requests.items() if (request.text_pair is not None) == paired]
    if mine:
      texts = [requests[i].text for i in mine]
      pairs = [requests[i].text_pair for i in mine] if paired else None
      encoded = tokenizer.encode_pairs(texts, pairs, max_length=LONGEST_TEXT)
      ids |= dict(zip(mine, encoded[0]))
      types |= dict(zip(mine, encoded[1]))
  return ids, types


if __name__ == '__main__':
  _cli.run(main)
