"""Data-to-text: rows of a context and one reference, as examples to train on and as prompts."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lora_jax.data.dataset import Dataset, Prompts, Task
from lora_jax.data.tokenizers import Tokenizer


class Example(NamedTuple):
  context: str  # 'name : Blue Spice | Type : coffee shop | area : city centre'
  reference: str


def task(
  name: str,
  train: Sequence[Example],
  evals: Mapping[str, Sequence[Example]],
  tokenizer: Tokenizer,
  *,
  scoring: str = '',
  max_length: int,
  limit: int = 0,
  seed: int = 0,
  parts: Mapping[str, Mapping[str, Collection[str]]] = types.MappingProxyType({}),
) -> Task:
  """A language model's task, judged by the loss on target tokens, with prompts to generate from.

  Args:
    name: the task's.
    train: rows, of which `limit` (0: all) are kept after a shuffle by `seed`.
    evals: rows of each held-out split.
    scoring: how generated texts are scored (metrics/text.py); '' is by the task's name.
    max_length: of an example, in tokens; prompts stay whole.
    parts: by split and name, the contexts of a part that is also scored by itself.
  """
  if 0 < limit < len(train):
    train = [train[i] for i in np.random.default_rng(seed).permutation(len(train))[:limit]]
  return Task(
    name=name,
    kind='lm',
    num_labels=0,
    train=encode(train, tokenizer, max_length),
    evals={split: encode(rows, tokenizer, max_length) for split, rows in evals.items()},
    metric='loss',
    higher_is_better=False,
    score=None,
    prompts={
      split: prompts(rows, tokenizer, parts.get(split, {})) for split, rows in evals.items()
    },
    scoring=scoring or name,
    tokenizer=tokenizer,
  )


def encode(rows: Iterable[Example], tokenizer: Tokenizer, max_length: int) -> Dataset:
  """BPE(context) + eos + BPE(' ' + reference) + eos, cut on the right; the first eos is context.

  What is cut off is no target either, as in the authors' code (examples/NLG, data_utils.py).
  """
  rows = list(rows)
  eos = np.array([tokenizer.eos_id], np.int32)
  contexts = tokenizer.encode([row.context for row in rows])
  # The authors strip a line's end before they cut it at '||', so no reference ends in a space.
  targets = tokenizer.encode([' ' + row.reference.strip() for row in rows])
  ids = [np.concatenate([c, eos, t, eos])[:max_length] for c, t in zip(contexts, targets)]
  return Dataset(ids=ids, target_starts=np.array([len(c) + 1 for c in contexts], np.int32))


def prompts(
  rows: Iterable[Example],
  tokenizer: Tokenizer,
  parts: Mapping[str, Collection[str]] = types.MappingProxyType({}),
) -> Prompts:
  """The distinct contexts of rows with all their references, in order of their first row.

  Ids are BPE(context) + eos, uncut: what a context loses on the left depends on the decoder.

  Args:
    parts: contexts by the name of the part they are in; a context may be in several or in none.
  """
  groups = grouped(rows)
  contexts = list(groups)
  eos = np.array([tokenizer.eos_id], np.int32)
  return Prompts(
    contexts=contexts,
    ids=[np.concatenate([ids, eos]) for ids in tokenizer.encode(contexts)],
    references=list(groups.values()),
    groups={
      name: np.array([context in members for context in contexts], bool)
      for name, members in parts.items()
    },
  )


def grouped(rows: Iterable[Example]) -> dict[str, list[str]]:
  """All references of each context, contexts in order of their first row.

  As the authors group them: by identical context, wherever its rows stand (547 contexts of 4672
  development rows of E2E, 630 of 4693 test rows).
  """
  groups: dict[str, list[str]] = {}
  for context, reference in rows:
    groups.setdefault(context, []).append(reference.strip())
  return groups


def linearise(triples: Iterable[tuple[str, str, str]]) -> str:
  """'subject : property : object' of each triple, joined by ' | ', every name as it is written.

  As the authors' converters do (examples/NLG/src/format_converting_webnlg.py and _dart.py):
  underscores, quotes and camel case stay, for BPE to take apart.
  """
  return ' | '.join(' : '.join(triple) for triple in triples)
