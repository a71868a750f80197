"""Answers to requests for several adapters of one base: `load` and `Server.answer`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple, TextIO, TypedDict

import flax.linen as nn
import numpy as np

from lora_jax import tree
from lora_jax.adapters.adapter import Adapter
from lora_jax.data.tokenizer import Tokenizer
from lora_jax.data.tokenizer_files import load_tokenizer
from lora_jax.errors import nearest
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.serving import requests
from lora_jax.serving.bank import BASE, Bank
from lora_jax.serving.batching import respond

WINDOW = 32  # The most full batches of lines that are answered together.
LONGEST_TEXT = 1 << 20  # Tokens: enough for an error to say how long a text is that is too long.


class Answer(TypedDict, total=False):
  """A class and the probability of each, the value of a regression, or a line and its error.

  A class has a name where the adapter names its classes.
  """

  adapter: str
  label: int
  name: str
  scores: list[float]
  score: float
  line: int
  error: str


class Server(NamedTuple):
  """A bank of adapters with what is needed to answer texts.

  Attributes:
    bank: the base and its adapters.
    tasks: `classification` or `regression`, by adapter.
    names: names of the classes, by adapter; none where they are unknown.
    tokenizer: the base's tokenizer.
    max_length: the most tokens of a text.
    rows: texts of a full batch.
  """

  bank: Bank
  tasks: Mapping[str, str]
  names: Mapping[str, Sequence[str]]
  tokenizer: Tokenizer
  max_length: int
  rows: int

  def answer(self, lines: Sequence[bytes], first: int = 1) -> tuple[list[Answer], int]:
    """An answer or an error for each line, and the number of tokens that were answered.

    Args:
      lines: requests, as `requests.parse` reads them.
      first: the number of the first line, for errors.
    """
    answers: list[Answer] = [{} for _ in lines]
    asked: dict[int, requests.Request] = {}
    for i, line in enumerate(lines):
      try:
        asked[i] = self._check(requests.parse(line))
      except ValueError as error:
        answers[i] = {'line': first + i, 'error': str(error)}
    ids, types = _encode(self.tokenizer, asked)
    for i in [i for i in asked if not 0 < len(ids[i]) <= self.max_length]:
      error = f'text of {len(ids[i])} tokens, expected from 1 to {self.max_length}'
      answers[i] = {'line': first + i, 'error': error}
      del asked[i]
    order = list(asked)
    names = [asked[i].adapter for i in order]
    logits = respond(
      self.bank, names, [ids[i] for i in order], [types[i] for i in order], rows=self.rows
    )
    for i, name, row in zip(order, names, logits):
      answers[i] = self._describe(name, row)
      if not answers[i]:
        answers[i] = {'line': first + i, 'error': f'the outputs of {name!r} are not finite'}
    return answers, sum(len(ids[i]) for i in order)

  def answer_stream(self, stream: BinaryIO, out: TextIO) -> dict[str, float]:
    """Writes an answer for each line of a stream as JSON, and returns counts and speeds."""
    count = {'requests': 0, 'errors': 0, 'tokens': 0}
    seconds = 0.0
    for lines in requests.windows(stream, WINDOW * self.rows):
      began = time.perf_counter()
      answers, tokens = self.answer(lines, first=count['requests'] + 1)
      out.write(''.join(json.dumps(x, ensure_ascii=False) + '\n' for x in answers))
      out.flush()
      seconds += time.perf_counter() - began
      count['requests'] += len(lines)
      count['errors'] += sum('error' in x for x in answers)
      count['tokens'] += tokens
    answering = max(seconds - self.bank.compiling, 1e-9)
    return count | {
      'seconds': round(seconds, 3),
      'compiling': round(self.bank.compiling, 3),
      'compilations': self.bank.compilations,
      'requests_per_second': round(count['requests'] / answering, 3),
      'tokens_per_second': round(count['tokens'] / answering, 3),
    }

  def _check(self, request: requests.Request) -> requests.Request:
    """The request, if its adapter can answer; otherwise raises a ValueError."""
    if request.adapter == BASE:
      raise ValueError(f'{BASE!r} is the base alone, which has no head to answer with')
    if request.adapter not in self.tasks:
      raise ValueError(
        f'unknown adapter {request.adapter!r}. {nearest(request.adapter, self.tasks)}'
      )
    return request

  def _describe(self, name: str, logits: np.ndarray) -> Answer:
    """The answer of an adapter that computed these logits; {} if they are not finite."""
    logits = logits[: self.bank.labels(name)].astype(np.float64)
    if not np.isfinite(logits).all():
      return {}
    if self.tasks[name] == 'regression':
      return {'adapter': name, 'score': round(float(logits[0]), 6)}
    scores = np.exp(logits - logits.max())
    rounded = [round(float(score), 6) for score in scores / scores.sum()]
    label = int(logits.argmax())
    answer: Answer = {'adapter': name, 'label': label}
    if names := self.names[name]:
      answer['name'] = names[label]
    return {**answer, 'scores': rounded}


def load(
  base: str,
  adapters: Mapping[str, Adapter],
  *,
  tokenizer: str = '',
  max_length: int = 0,
  rows: int = 32,
  other_base: bool = False,
  quantize: str = 'none',
) -> Server:
  """Loads the base, and puts the adapters into a bank.

  Args:
    base: a model's folder or a preset.
    adapters: by the names that requests use.
    tokenizer: a folder or archive; '' for the base's own.
    max_length: the most tokens of a text; 0 for as many as the model has positions.
    rows: texts of a full batch.
    other_base: whether adapters of another base are allowed.
    quantize: how the base's kernels are kept, as for `huggingface.load_model`.

  Raises:
    ValueError: if the base does not classify, the tokenizer has more tokens than the base, or an
      adapter cannot be served, naming it.
    OSError: if a file cannot be read.
  """
  model, params = _load_base(base, quantize)
  words = load_tokenizer(tokenizer or huggingface.locate(base))
  if words.vocab_size > model.config.vocab_size:
    raise ValueError(
      f'the tokenizer {words.name} has ids up to {words.vocab_size - 1}, but the base {base} has '
      f'{model.config.vocab_size} embeddings: it is the tokenizer of another model'
    )
  limit = model.config.max_positions
  if not 0 <= max_length <= limit:
    raise ValueError(f'max_length={max_length}: the model has {limit} positions')
  for name, adapter in adapters.items():
    _check_adapter(name, adapter, base, model)
  bank = Bank.of(model, params, adapters, other_base=other_base)
  tasks = {name: adapter.task for name, adapter in adapters.items()}
  names = {name: adapter.label_names for name, adapter in adapters.items()}
  return Server(bank, tasks, names, words, max_length or limit, rows)


def _load_base(name: str, quantize: str) -> tuple[nn.Module, tree.Params]:
  """A model that classifies, with its own head, or a fresh one, by which no adapter answers."""
  family = huggingface.read_config(huggingface.locate(name)).family
  if 'classification' not in presets.TASKS[family]:
    raise ValueError(f'the base {name} is a {family} model, which does not classify')
  return huggingface.load_model(name, task='classification', quantize=quantize)


def _check_adapter(name: str, adapter: Adapter, base: str, model: nn.Module) -> None:
  """Checks an adapter's family and head; the bank compares the bases of one family.

  Raises:
    ValueError: if the adapter's base is of another family, or it has no task head.
  """
  family = adapter.config.family
  if family != model.config.family:  # First: its head has the paths of its own family.
    trained_on = f'{adapter.base}, a {family} model' if adapter.base else f'a {family} model'
    raise ValueError(
      f'adapter {name!r} was trained on another base: on {trained_on}; the base {base} is a '
      f'{model.config.family} model. Serve it with the base that it was trained on.'
    )
  trained = tree.paths(adapter.trainable)
  if not any(re.fullmatch(pattern, path) for pattern in model.head for path in trained):
    raise ValueError(f'adapter {name!r} has no task head to answer with')


def _encode(
  tokenizer: Tokenizer, asked: Mapping[int, requests.Request]
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
  """Token ids and types of each request, not truncated; texts and pairs are encoded apart."""
  ids: dict[int, np.ndarray] = {}
  types: dict[int, np.ndarray] = {}
  single = {i: request.text for i, request in asked.items() if request.text_pair is None}
  pairs = {
    i: (request.text, request.text_pair)
    for i, request in asked.items()
    if request.text_pair is not None
  }
  for numbers, texts in ((single, (list(single.values()),)), (pairs, zip(*pairs.values()))):
    if numbers:
      encoded = tokenizer.encode_pairs(*texts, max_length=LONGEST_TEXT)
      ids |= dict(zip(numbers, encoded[0]))
      types |= dict(zip(numbers, encoded[1]))
  return ids, types
