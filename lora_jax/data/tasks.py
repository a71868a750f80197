"""Tasks by name: `load_task('mrpc', tokenizer, data_dir=...)`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from lora_jax.data import (
  corpus,
  dart,
  data_to_text,
  e2e,
  glue,
  mnli_text,
  samsum,
  sources,
  synthetic,
  webnlg,
  wikisql,
)
from lora_jax.data.dataset import Dataset, Request, Task
from lora_jax.data.own import describe
from lora_jax.data.own import load as load_own
from lora_jax.data.records import Files
from lora_jax.data.tokenizer import Tokenizer
from lora_jax.errors import nearest

LOADERS: dict[str, Callable[[str, Request], Task]] = {
  **dict.fromkeys(glue.TASKS, glue.load),
  **{
    name: functools.partial(data_to_text.load, read=module.read)
    for name, module in dict(e2e=e2e, dart=dart, wikisql=wikisql, samsum=samsum).items()
  },
  'mnli_text': functools.partial(data_to_text.load, read=mnli_text.read, held_out='dev_matched'),
  'webnlg': webnlg.load,
  'corpus': corpus.load,
  **{f'synthetic/{name}': synthetic.load for name in ('pretrain', *synthetic.DOMAINS)},
}
TASKS = tuple(LOADERS)
OWN = 'own/'  # Begins the name of a task in a user's own files.


def load_task(
  name: str,
  tokenizer: Tokenizer,
  *,
  source: str = 'files',
  data_dir: str = '',
  max_length: int = 512,
  limit: int = 0,
  seed: int = 0,
  evals: Sequence[str] = (),
  own: Files | None = None,
  general: int = 0,
) -> Task:
  """Reads a task and tokenizes it.

  Args:
    name: one of `TASKS`, or `own/...`, whose files are `own`. `synthetic/...` needs no files, so
      `source` and `data_dir` are ignored.
    tokenizer: turns texts into ids.
    source: 'files' (`data_dir` holds the official archives or what they unpack to) or 'tfds'
      (`data_dir` is TFDS's).
    data_dir: the folder of the data.
    max_length: longer examples are truncated: a pair from the end of its longer text, an example of
      a language model on the right.
    limit: the first `limit` training examples after a shuffle by `seed`; 0 for all.
    seed: of that shuffle.
    evals: splits to evaluate on; empty for the task's dev splits. `test` of GLUE has no labels.
    own: the files of a task of the user's own.
    general: sequences of general text beside the held-out splits, see `corpus.with_general`.

  Raises:
    ValueError: for an unknown task, source or split, and for malformed files.
    FileNotFoundError: if the data is not there, naming the places looked at.
  """
  sources.check_source(source)
  load = _loader(name)
  request = Request(
    tokenizer=tokenizer,
    source=source,
    data_dir=data_dir,
    max_length=max_length,
    limit=limit,
    seed=seed,
    evals=evals,
    own=own,
  )
  task = load(name, request)
  return corpus.with_general(task, request, general) if general else task


def check_labeled(name: str, splits: Sequence[str]) -> None:
  """Refuses splits of a task that have no labels to evaluate on, before anything is read.

  Raises:
    ValueError: for an unknown task; for a test split of GLUE, naming the splits that have labels.
  """
  _loader(name)
  spec = glue.TASKS.get('mnli' if name == 'mnli_text' else name)
  hidden = [split for split in splits if split.startswith('test')]
  if spec and hidden:
    labeled = ', '.join(split for split in spec.splits if not split.startswith('test'))
    raise ValueError(
      f"{name} {hidden[0]}: the labels of GLUE's test splits are not public, its server alone has "
      f'them. Splits with labels: {labeled}'
    )


def without_data(name: str, own: Files | None = None) -> Task:
  """A task without examples, for what a model has to know of it: its kind and its classes.

  Of a task in a user's own files the training file is read for this.

  Raises:
    ValueError: for an unknown task.
    ValueError, FileNotFoundError: as `own.load`.
  """
  _loader(name)
  if name.startswith(OWN):
    return of_kind(name, *describe(own or Files()))
  spec = glue.TASKS.get(name)
  return of_kind(name, spec.kind, spec.classes) if spec else of_kind(name, 'lm', ())


def of_kind(name: str, kind: str, label_names: Sequence[str]) -> Task:
  """A task without examples; it has as many classes as they have names."""
  return Task(
    name=name,
    kind=kind,
    num_labels=0 if kind == 'lm' else len(label_names) or 1,
    train=Dataset(ids=[]),
    evals={},
    metric='',
    higher_is_better=True,
    score=None,
    label_names=tuple(label_names),
  )


def _loader(name: str) -> Callable[[str, Request], Task]:
  """The loader of a task, which raises a ValueError for an unknown name."""
  if name.startswith(OWN):
    return load_own
  if name not in LOADERS:
    raise ValueError(f'unknown task {name!r}. {nearest(name, LOADERS)}')
  return LOADERS[name]
