"""The rows that later papers print of tables 2 and 3 (`lora_jax/paper/successors.py`).

Models, methods, ranks, matrices and base dtypes are those of the papers, epochs and batch sizes
those of LoRA's paper on the task, and each method is trained at every rate of `configs/rates.py`:
the rates of the later papers are not used. BitFit and the adapters of PiSSA's table are trained by
`--table=2 --model=deberta-v3-base`; AdaLoRA is not in this project. QLoRA's FP4 is nf4 here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lora_jax.errors import nearest
from lora_jax.paper import settings
from lora_jax.reproduce.paper import chosen
from lora_jax.reproduce.units import NOTHING, Choice, Unit

E2E_MODELS = ('gpt2-medium', 'gpt2-large')


class Row(NamedTuple):
  """A row of a later paper's table.

  Attributes:
    arg: what picks its runs in the argument of `configs/rates.py`, of table 3 of `configs/e2e.py`.
    fields: what they change of its config.
  """

  arg: Mapping[str, str]
  fields: Mapping[str, object] = NOTHING


class Glue(NamedTuple):
  """A later paper's rows of table 2.

  Attributes:
    model: the paper's.
    tasks: that it prints.
    rows: by their method.
  """

  model: str
  tasks: tuple[str, ...]
  rows: Mapping[str, Row]


FULL = Row({'methods': 'full'})
_EIGHT = {'ranks': '8', 'targets': 'all'}
_EVERY = {'ranks': '64', 'targets': 'all'}
GLUE: Mapping[str, Glue] = {
  'pissa': Glue(
    'deberta-v3-base',
    settings.GLUE_TASKS,
    {'full': FULL} | {name: Row({'methods': name, **_EIGHT}) for name in ('lora', 'dora', 'pissa')},
  ),
  'vera': Glue(
    'roberta-base',
    ('sst2', 'mrpc', 'cola', 'qnli', 'rte', 'stsb'),
    {
      'full': FULL,
      'vera': Row({'methods': 'vera', 'ranks': '1024', 'targets': 'query_value'}),
    },
  ),
  'qlora': Glue(
    'roberta-large',
    settings.GLUE_TASKS,
    {
      'full': Row({'methods': 'full'}, {'model.dtype': 'bfloat16'}),
      'lora': Row({'methods': 'lora', **_EVERY}, {'model.dtype': 'bfloat16'}),
      'int8': Row({'methods': 'lora', **_EVERY}, {'model.quantize': 'int8'}),
      'nf4': Row({'methods': 'lora', **_EVERY}, {'model.quantize': 'nf4'}),
    },
  ),
}
E2E: Mapping[str, Row] = {
  'lora': Row({'method': 'lora'}),
  'vera': Row({'method': 'vera'}, {'method.rank': 1024}),
}
PAPERS = tuple(GLUE)


def rows(kind: str, number: str, choice: Choice) -> list[Unit]:
  """The rows of a later paper; each is a run, or a sweep of rates, of every seed.

  Args:
    kind, number: of the table: 2, and of VeRA 3.
    choice: what is asked of it; its model, tasks and methods are the paper's unless they are given.

  Raises:
    ValueError: for a paper that is not known, a table that it does not print, or a task or method
      that it does not have.
  """
  if choice.paper not in PAPERS:
    raise ValueError(f'--paper: unknown paper {choice.paper!r}. {nearest(choice.paper, PAPERS)}')
  printed = [('table', '2')] + [('table', '3')] * (choice.paper == 'vera')
  if (kind, number) not in printed:
    known = ' or '.join(f'--{of}={which}' for of, which in printed)
    raise ValueError(f'--paper={choice.paper}: expected {known}, found --{kind}={number}')
  return list(_of_glue(GLUE[choice.paper], choice) if number == '2' else _of_e2e(choice))


def _of_glue(paper: Glue, choice: Choice) -> Iterator[Unit]:
  model = choice.model or paper.model
  for task in chosen(choice.tasks, paper.tasks, 'task'):
    for name in chosen(choice.methods, tuple(paper.rows), 'method'):
      row = paper.rows[name]
      arg = choice.argument(task=task, model=model, **row.arg, seed='{seed}')
      unit = f'{task}-{name}-seed-{{seed}}'
      yield Unit(unit, f'{task} {name}', 'sweep', 'rates', arg, row.fields)


def _of_e2e(choice: Choice) -> Iterator[Unit]:
  chosen(choice.tasks, ('e2e',), 'task')
  for model in (choice.model,) if choice.model else E2E_MODELS:
    for name in chosen(choice.methods, tuple(E2E), 'method'):
      label = f'{model.rstrip("/").rpartition("/")[2]}-{name}'
      row = E2E[name]
      arg = choice.argument(model=model, preset='llm', **row.arg)
      yield Unit(f'{label}-seed-{{seed}}', label, config='e2e', arg=arg, fields=row.fields)
