"""The records that every task is read into: examples as token ids, prompts, and the task."""

from __future__ import annotations

import dataclasses
import logging
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, TypedDict

import numpy as np

from lora_jax.data.records import Files
from lora_jax.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Tokenized examples, in the order of their source.

  At most one of `labels` and `target_starts` is set. If neither is, the examples have no labels
  (GLUE's test splits).
  """

  ids: Sequence[np.ndarray]  # int32 [length] each, special tokens included
  token_types: Sequence[np.ndarray] | None = None  # int32 [length] each; None for language models
  labels: np.ndarray | None = None  # int32 [n] class ids, or float32 [n] values
  # int32 [n], at least 1: the number of context tokens. The tokens from there on are the target.
  target_starts: np.ndarray | None = None
  cut: int = 0  # Examples whose end did not fit in the most tokens of an example.
  left_out: int = 0  # Examples that are missing here: nothing of their target fitted.
  reads_last: bool = False  # The prediction is the last token's, not the first's.

  def __post_init__(self):
    for name in ('token_types', 'labels', 'target_starts'):
      value = getattr(self, name)
      if value is not None and len(value) != len(self.ids):
        raise ValueError(f'{len(self.ids)} examples, but {len(value)} {name}')
    if self.target_starts is not None and len(self.ids) and np.min(self.target_starts) < 1:
      raise ValueError('target_starts must be at least 1: no column predicts the first token')

  def __len__(self) -> int:
    return len(self.ids)

  @cached_property
  def lengths(self) -> np.ndarray:
    """int64 [n]: the number of tokens of each example."""
    return np.fromiter((len(ids) for ids in self.ids), np.int64, len(self.ids))

  @cached_property
  def num_predictions(self) -> np.ndarray:
    """int64 [n]: prediction positions of each example, 1 or the number of its target tokens."""
    if self.target_starts is None:
      return np.ones(len(self), np.int64)
    return np.maximum(self.lengths - self.target_starts, 0)

  def take(self, indices: Sequence[int] | np.ndarray) -> Dataset:
    """The examples at these indices, in this order."""
    indices = np.asarray(indices, np.int64)
    return Dataset(
      ids=[self.ids[i] for i in indices],
      token_types=None if self.token_types is None else [self.token_types[i] for i in indices],
      labels=None if self.labels is None else self.labels[indices],
      target_starts=None if self.target_starts is None else self.target_starts[indices],
      reads_last=self.reads_last,
    )

  def reading_last(self) -> Dataset:
    """The examples for a decoder, whose last token has seen the others; without token types."""
    return dataclasses.replace(self, token_types=None, reads_last=True)


def virtual_tokens(vocab_size: int, counts: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
  """Ids, beyond the vocabulary, of the tokens that a method puts before and after an input."""
  prefix, infix = counts
  ids = vocab_size + np.arange(prefix + infix, dtype=np.int32)
  return ids[:prefix], ids[prefix:]


def with_virtual(dataset: Dataset, vocab_size: int, counts: tuple[int, int]) -> Dataset:
  """The examples with a method's virtual tokens around their inputs (methods/prefix.py).

  A language model's input is its context, so the infix stands before the target. An encoder's input
  is the whole example, and the prefix follows the first token, whose output is the prediction.
  Where the last token's output is, the infix stands before it.
  """
  prefix, infix = virtual_tokens(vocab_size, counts)
  if not sum(counts):
    return dataset
  starts = dataset.target_starts
  if starts is not None:
    ids = [np.concatenate([prefix, x[:n], infix, x[n:]]) for x, n in zip(dataset.ids, starts)]
    return dataclasses.replace(dataset, ids=ids, target_starts=starts + np.int32(sum(counts)))
  if dataset.reads_last:
    ids = [np.concatenate([prefix, x[:-1], infix, x[-1:]]) for x in dataset.ids]
    return dataclasses.replace(dataset, ids=ids)
  ids = [np.concatenate([x[:1], prefix, x[1:], infix]) for x in dataset.ids]
  types = dataset.token_types
  if types is not None:
    types = [np.pad(x, counts, mode='edge') for x in types]
  return dataclasses.replace(dataset, ids=ids, token_types=types)


class Prompts(NamedTuple):
  """The distinct contexts of a split, in the order of its file, to generate text from.

  Attributes:
    contexts: the texts.
    ids: int32 [length] each: a context and the token that ends it.
    references: all references that the split has for each context, at least one.
    groups: bool [n] by the name of a part of the split that is also scored by itself.
  """

  contexts: Sequence[str]
  ids: Sequence[np.ndarray]
  references: Sequence[Sequence[str]]
  groups: Mapping[str, np.ndarray] = types.MappingProxyType({})


class Task(NamedTuple):
  """A dataset with its splits, and how a run on it is evaluated.

  Attributes:
    name: the task's name.
    kind: 'classification', 'regression' or 'lm'.
    num_labels: 1 for regression, 0 for a language model.
    train: training examples.
    evals: examples of each held-out split; the first split selects the best epoch.
    metric: the metric that selects the best epoch.
    higher_is_better: whether a higher value of it is better.
    score: (labels [n], predictions [n]) -> scores; predictions are class ids or values, not logits.
    prompts: contexts of a language model to generate from, by split as in `evals`.
    scoring: how generated texts are scored (metrics/text.py).
    tokenizer: turns generated ids into texts.
    label_names: names of the classes, in the order of their ids; none where there are no classes.
  """

  name: str
  kind: str
  num_labels: int
  train: Dataset
  evals: Mapping[str, Dataset]
  metric: str
  higher_is_better: bool
  score: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None
  prompts: Mapping[str, Prompts] = types.MappingProxyType({})
  scoring: str = ''
  tokenizer: Tokenizer | None = None
  label_names: tuple[str, ...] = ()

  def with_evals_of(self, limit: int) -> Task:
    """The task with `limit` examples of each held-out split, drawn alike for all runs; 0: all."""

    def draw(data: Dataset) -> Dataset:
      if not 0 < limit < len(data):
        return data
      return data.take(np.sort(np.random.default_rng(0).permutation(len(data))[:limit]))

    return self._replace(evals={split: draw(data) for split, data in self.evals.items()})

  def reading_last(self) -> Task:
    """The task for a decoder; see `Dataset.reading_last`."""
    evals = {split: data.reading_last() for split, data in self.evals.items()}
    return self._replace(train=self.train.reading_last(), evals=evals)

  @property
  def truncation(self) -> dict[str, Truncation]:
    """What `max_length` cut, by split, the training examples first."""
    every = {'train': self.train, **self.evals}
    return {
      split: Truncation(examples=len(data), cut=data.cut, left_out=data.left_out)
      for split, data in every.items()
    }

  def warn_of_truncation(self, max_length: int) -> None:
    """Logs how many examples of each split were cut at `max_length` tokens, where any were."""
    for split, found in self.truncation.items():
      if found['cut'] or found['left_out']:
        logging.warning(
          '%s %s: config.data.max_length=%d cuts the end of %d of %d examples; %d more are left '
          'out, as nothing of their target fits',
          *(self.name, split, max_length, found['cut'], found['examples'], found['left_out']),
        )


class Truncation(TypedDict):
  """Of a split the examples that are used, how many of them were cut, and how many are missing."""

  examples: int
  cut: int
  left_out: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What a task is to be read with; `load_task` says what each field means."""

  tokenizer: Tokenizer
  source: str = 'files'
  data_dir: str = ''
  max_length: int = 512
  limit: int = 0
  seed: int = 0
  evals: Sequence[str] = ()
  own: Files | None = None

  def training_indices(self, n: int) -> Sequence[int]:
    """The training examples to keep of n: all, or the first `limit` after a shuffle by `seed`."""
    if not 0 < self.limit < n:
      return range(n)
    return np.random.default_rng(self.seed).permutation(n)[: self.limit].tolist()
