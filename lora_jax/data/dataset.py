"""What every task is turned into: examples as token ids, and what a run needs to know of them."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lora_jax.data.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Tokenised examples, in the order of their source.

  Of `labels` and `target_starts` at most one is set; with neither the examples are unlabelled
  (GLUE's test splits).
  """

  ids: Sequence[np.ndarray]  # int32 [length] each, special tokens included
  token_types: Sequence[np.ndarray] | None = None  # int32 [length] each; None for language models
  labels: np.ndarray | None = None  # int32 [n] class ids, or float32 [n] values
  # int32 [n], at least 1: the number of context tokens. The tokens from there on are the target.
  target_starts: np.ndarray | None = None

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
    """int64 [n]: tokens of each example."""
    return np.fromiter((len(ids) for ids in self.ids), np.int64, len(self.ids))

  @cached_property
  def num_predictions(self) -> np.ndarray:
    """int64 [n]: outputs wanted of each example, 1 or the number of its target tokens."""
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
    )


def virtual_tokens(vocab_size: int, counts: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
  """Ids of the tokens that a method wants before and after an input, beyond the vocabulary."""
  prefix, infix = counts
  ids = vocab_size + np.arange(prefix + infix, dtype=np.int32)
  return ids[:prefix], ids[prefix:]


def with_virtual(dataset: Dataset, vocab_size: int, counts: tuple[int, int]) -> Dataset:
  """The examples with a method's tokens around their inputs (methods/prefix.py).

  A language model's input is its context, so the second kind stands before the target; an encoder's
  is all of it, and the first kind follows the first token, which is read out.
  """
  prefix, infix = virtual_tokens(vocab_size, counts)
  if not sum(counts):
    return dataset
  starts = dataset.target_starts
  if starts is not None:
    ids = [np.concatenate([prefix, x[:n], infix, x[n:]]) for x, n in zip(dataset.ids, starts)]
    return dataclasses.replace(dataset, ids=ids, target_starts=starts + np.int32(sum(counts)))
  ids = [np.concatenate([x[:1], prefix, x[1:], infix]) for x in dataset.ids]
  types = dataset.token_types
  if types is not None:
    types = [np.pad(x, counts, mode='edge') for x in types]
  return dataclasses.replace(dataset, ids=ids, token_types=types)


class Prompts(NamedTuple):
  """What text is generated from: the distinct contexts of a split, in the order of its file."""

  contexts: Sequence[str]
  ids: Sequence[np.ndarray]  # int32 [length] each: the context and the token that ends it
  references: Sequence[Sequence[str]]  # all that the split has for each context, at least one
  groups: Mapping[str, np.ndarray] = types.MappingProxyType({})  # name of a part -> bool [n]


class Task(NamedTuple):
  """A dataset with its splits, and how a run on it is judged."""

  name: str
  kind: str  # 'classification' | 'regression' | 'lm'
  num_labels: int  # 1 for regression, 0 for a language model
  train: Dataset
  evals: Mapping[str, Dataset]  # The first one selects the best epoch.
  metric: str  # The one that selects the best epoch.
  higher_is_better: bool
  # (labels [n], predictions [n]) -> scores; predictions are class ids or values, not logits.
  score: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None
  # For a language model: contexts by split as in `evals`, how texts are scored (metrics/text.py),
  # and what makes texts of ids.
  prompts: Mapping[str, Prompts] = types.MappingProxyType({})
  scoring: str = ''
  tokenizer: Tokenizer | None = None
