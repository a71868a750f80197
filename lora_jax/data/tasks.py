"""Tasks by name: `load_task('mrpc', tokenizer, data_dir=...)`."""

from __future__ import annotations

from collections.abc import Sequence

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
from lora_jax.data.dataset import Dataset as Dataset
from lora_jax.data.dataset import Prompts as Prompts
from lora_jax.data.dataset import Task as Task
from lora_jax.data.dataset import virtual_tokens as virtual_tokens
from lora_jax.data.dataset import with_virtual as with_virtual
from lora_jax.data.tokenizers import Tokenizer

# Contexts with references: how a split is read, and the one that is evaluated on.
ROWS = {
  'e2e': (e2e.read, 'dev'),
  'dart': (dart.read, 'dev'),
  'wikisql': (wikisql.read, 'dev'),
  'samsum': (samsum.read, 'dev'),
  'mnli_text': (mnli_text.read, 'dev_matched'),
}
READ = {'webnlg': webnlg, 'corpus': corpus}
MADE = tuple(f'synthetic/{name}' for name in ('pretrain', *synthetic.DOMAINS))
TASKS = (*glue.TASKS, *ROWS, *READ, *MADE)


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
) -> Task:
  """Reads a task and tokenises it.

  Args:
    name: one of `TASKS`. `synthetic/...` is made, not read: `source` and `data_dir` say nothing.
    source: 'files' (`data_dir` holds the official archives or what they unpack to) or 'tfds'
      (`data_dir` is TFDS's).
    max_length: longer examples are cut: pairs at the longer part first, generation on the right.
    limit: the first `limit` training examples after a shuffle by `seed`; 0 for all.
    evals: splits to evaluate on; empty for the task's own dev splits. `test` of GLUE has no labels.

  Raises:
    ValueError: for an unknown task, source or split, and for files that are not as expected.
    FileNotFoundError: if the data is not there, naming the places looked at.
  """
  sources.check_source(source)
  if name in glue.TASKS:
    return glue.load(name, tokenizer, source, data_dir, max_length, limit, seed, evals)
  if name in ROWS:
    read, held_out = ROWS[name]
    return data_to_text.task(
      name,
      read('train', source, data_dir),
      {split: read(split, source, data_dir) for split in evals or (held_out,)},
      tokenizer,
      max_length=max_length,
      limit=limit,
      seed=seed,
    )
  if name in READ:
    load = READ[name].load
    return load(tokenizer, source, data_dir, max_length, limit, seed, evals)
  if name in MADE:
    return synthetic.load(name.partition('/')[2], tokenizer, max_length, limit, seed, evals)
  raise ValueError(f'Unknown task {name!r}{sources.nearest(name, TASKS)}')


def without_data(name: str) -> Task:
  """A task with no examples: what a model has to know of it, its kind and its number of labels.

  Raises:
    ValueError: for an unknown task.
  """
  if name not in TASKS:
    raise ValueError(f'Unknown task {name!r}{sources.nearest(name, TASKS)}')
  spec = glue.TASKS.get(name)
  return Task(
    name=name,
    kind=spec.kind if spec else 'lm',
    num_labels=(len(spec.classes) or 1) if spec else 0,
    train=Dataset(ids=[]),
    evals={},
    metric='',
    higher_is_better=True,
    score=None,
  )
