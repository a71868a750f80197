"""Data-to-text: rows of a context and one reference, as training examples and as prompts."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lora_jax.data.dataset import Dataset, Prompts, Request, Task
from lora_jax.data.tokenizer import Tokenizer


class Example(NamedTuple):
  """A row: `name : Blue Spice | Type : coffee shop | area : riverside`, and a text about it."""

  context: str
  reference: str


class Form(NamedTuple):
  """How the texts of rows become an example.

  Attributes:
    contexts: ids of contexts, with all tokens that stand before a target.
    targets: ids of references as targets after their contexts, with the token that ends them.
    plain: a reference as it is compared with generated texts.
  """

  contexts: Callable[[Sequence[str]], list[np.ndarray]]
  targets: Callable[[Sequence[str], Sequence[str]], list[np.ndarray]]
  plain: Callable[[str], str]


def papers_form(tokenizer: Tokenizer) -> Form:
  """BPE(context) + eos + BPE(' ' + reference) + eos; the first eos belongs to the context."""
  # The authors strip a line's end before they cut it at '||', so no reference ends in a space.
  return Form(
    lambda texts: ended(tokenizer, tokenizer.encode(texts)),
    lambda _, texts: ended(tokenizer, tokenizer.encode([' ' + text.strip() for text in texts])),
    str.strip,
  )


def ended(tokenizer: Tokenizer, ids: Sequence[np.ndarray]) -> list[np.ndarray]:
  """The ids of texts, each with the token that ends a text."""
  end = np.array([tokenizer.eos_id], np.int32)
  return [np.concatenate([one, end]) for one in ids]


def load(
  name: str,
  request: Request,
  *,
  read: Callable[[str, str, str], Sequence[Example]],
  held_out: str = 'dev',
) -> Task:
  """A task whose rows `read(split, source, data_dir)` gives; see `load_task`."""
  rows = lambda split: read(split, request.source, request.data_dir)
  return task(
    name, rows('train'), {split: rows(split) for split in request.evals or (held_out,)}, request
  )


def task(
  name: str,
  train: Sequence[Example],
  evals: Mapping[str, Sequence[Example]],
  request: Request,
  *,
  scoring: str = '',
  parts: Mapping[str, Mapping[str, Collection[str]]] = types.MappingProxyType({}),
  form: Form | None = None,
) -> Task:
  """A task for a language model: evaluated by the loss on target tokens, with prompts.

  Args:
    name: the task's name.
    train: all training rows.
    evals: rows of each held-out split.
    request: how many rows to keep, and how to encode them; prompts are not truncated.
    scoring: how generated texts are scored (metrics/text.py); '' if by the task's name.
    parts: by split and name, the contexts of a part that is also scored by itself.
    form: how rows become examples; None is the paper's form.
  """
  tokenizer, max_length = request.tokenizer, request.max_length
  form = form or papers_form(tokenizer)
  train = [train[i] for i in request.training_indices(len(train))]
  return Task(
    name=name,
    kind='lm',
    num_labels=0,
    train=encode(train, form, max_length),
    evals={split: encode(rows, form, max_length) for split, rows in evals.items()},
    metric='loss',
    higher_is_better=False,
    score=None,
    prompts={split: prompts(rows, form, parts.get(split, {})) for split, rows in evals.items()},
    scoring=scoring or name,
    tokenizer=tokenizer,
  )


def encode(rows: Iterable[Example], form: Form, max_length: int) -> Dataset:
  """Contexts and targets in a form, truncated on the right.

  Tokens that are cut off are not targets, as in the authors' code (examples/NLG, data_utils.py). An
  example of whose target nothing is left is left out.
  """
  rows = list(rows)
  contexts = form.contexts([row.context for row in rows])
  targets = form.targets([row.context for row in rows], [row.reference for row in rows])
  pairs = [(c, t) for c, t in zip(contexts, targets) if len(c) < max_length]
  whole = [np.concatenate(pair) for pair in pairs]
  return Dataset(
    ids=[ids[:max_length] for ids in whole],
    target_starts=np.array([len(c) for c, _ in pairs], np.int32),
    cut=sum(len(ids) > max_length for ids in whole),
    left_out=len(rows) - len(pairs),
  )


def prompts(
  rows: Iterable[Example],
  form: Form,
  parts: Mapping[str, Collection[str]] = types.MappingProxyType({}),
) -> Prompts:
  """The distinct contexts of rows with all their references, in the order of their first rows.

  Ids are not truncated: the decoder decides what a context loses on the left.

  Args:
    parts: contexts by the name of the part they are in; a context may be in several or in none.
  """
  groups = group(rows, form.plain)
  contexts = list(groups)
  return Prompts(
    contexts=contexts,
    ids=form.contexts(contexts),
    references=list(groups.values()),
    groups={
      name: np.array([context in members for context in contexts], bool)
      for name, members in parts.items()
    },
  )


def group(rows: Iterable[Example], plain: Callable[[str], str] = str.strip) -> dict[str, list[str]]:
  """All references of each context, in the order of the contexts' first rows.

  Rows belong together if their contexts are identical, wherever they stand, as in the authors' code
  (547 contexts in 4672 development rows of E2E, 630 in 4693 test rows).
  """
  groups: dict[str, list[str]] = {}
  for context, reference in rows:
    groups.setdefault(context, []).append(plain(reference))
  return groups


def linearize(triples: Iterable[tuple[str, str, str]]) -> str:
  """'subject : property : object' of each triple, joined by ' | '.

  Names stay as they are written, with underscores, quotes and camel case, as the authors'
  converters leave them (examples/NLG/src/format_converting_webnlg.py and _dart.py).
  """
  return ' | '.join(' : '.join(triple) for triple in triples)
