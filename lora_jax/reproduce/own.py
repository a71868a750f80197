"""The runs behind a table in the paper's form on another base, at the settings of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from lora_jax.paper import entries, settings
from lora_jax.reproduce import paper
from lora_jax.reproduce.paper import chosen
from lora_jax.reproduce.units import Choice, Unit, with_seeds

# The rows of tables 3, 13 and 14: the paper's methods, and LoRA on all matrices of attention.
METHODS: Mapping[str, Mapping[str, str]] = {
  'full': {'method': 'full'},
  'lora': {'method': 'lora'},
  'lora-all': {'method': 'lora', 'targets': 'all'},
  'bitfit': {'method': 'bitfit'},
  'adapter_h': {'method': 'adapter_h'},
  'adapter_l': {'method': 'adapter_l'},
  'prefix_layer': {'method': 'prefix_layer'},
  'top_layers': {'method': 'top_layers'},
}
GLUE_METHODS = ('lora', 'full', 'bitfit', 'adapter_h')  # Of table 2, unless others are asked for.
GLUE_TASKS = (*settings.GLUE_TASKS, 'wnli')
# Config and rows of a table that is one sweep for each seed.
SWEEPS = {
  '5': ('matrices', ''),
  '6': ('rank', '6'),
  '18': ('rank', '18'),
}


class Search(NamedTuple):
  """How far the search of a method's rate on a task is.

  Attributes:
    tried: the rates with an outcome that are not of the first sweep.
    next: the rate to try; None where there is none.
    best: the rate of the other seeds; None while the search goes on.
  """

  tried: tuple[float, ...]
  next: float | None
  best: float | None


Searches = Callable[[str, str], Search]  # Of a task and a method.


def rows(kind: str, number: str, choice: Choice, default_task: str) -> list[Unit]:
  """The rows of a table or figure but table 2; each is a run, or a sweep, of every seed.

  Args:
    kind, number: of the table or figure.
    choice: what is asked of it; it names the model.
    default_task: of an ablation.

  Raises:
    ValueError: for a task or a method that the table does not have.
  """
  if kind == 'figure' and number == '2':
    number = '15'
  if number in paper.CONFIGS:
    return list(_of_texts(number, choice))
  if number == '4':
    return paper.of_gpt3('4', choice)
  if number in ('15', '16'):
    return list(_by_method(number, choice, default_task))
  config, form = SWEEPS[number]
  return [_sweep(config, task, choice, rows=form) for task in _tasks(choice, default_task)]


def analyzed(what: str, choice: Choice, default_task: str) -> list[Unit]:
  """The runs of a figure or table of section 7, as a sweep of their ranks for each seed.

  Raises:
    ValueError: for a task that is not known, or more than one.
  """
  task = paper.one_of(_tasks(choice, default_task), what)
  ranks = '+'.join(map(str, paper.ranks_of(what)))
  seeds = 1 + max(one.seed for of in paper.SELECTIONS[what] for one in of)
  return with_seeds([_sweep('rank', task, choice, rows='18', ranks=ranks)], seeds)


def glue(choice: Choice, searches: Searches) -> Iterator[Unit]:
  """Table 2: tasks by methods, each at the best of its rates, which the first seed tries.

  Args:
    choice: what is asked of the table.
    searches: how far each search is.

  Raises:
    ValueError: for a task or a method that is not known.
  """
  tasks = chosen(choice.tasks, GLUE_TASKS, 'task') if choice.tasks else settings.GLUE_TASKS
  cells = [(task, method) for method in choice.methods or GLUE_METHODS for task in tasks]
  later = []
  for task, method in cells:
    search = searches(task, method)
    yield _search(choice, task, method, 'rates')
    for rate in (*search.tried, *([search.next] if search.next else [])):
      yield _search(choice, task, method, f'rate-{rate:g}', lr=f'{rate:g}')
    for seed in range(1, choice.seeds):
      rate = f'{search.best:g}' if search.best else ''
      unit = _search(choice, task, method, f'seed-{seed}', seed, lr=rate)
      later.append(unit if rate else unit._replace(waits='the best rate'))
  yield from sorted(later, key=lambda unit: unit.seed)


def _search(
  choice: Choice, task: str, method: str, folder: str, seed: int = 0, **values: str
) -> Unit:
  """A sweep of one seed of one method on one task."""
  arg = choice.argument(task=task, model=choice.model, methods=method, seed=str(seed), **values)
  name, label = f'{task}-{method}-{folder}', f'{task} {method}, {folder.replace("-", " ")}'
  return Unit(name, label, 'sweep', 'compare', arg, seed=seed, part=f'{task}-{method}')


def _tasks(choice: Choice, default_task: str) -> tuple[str, ...]:
  """The tasks of an ablation, whose method is LoRA."""
  chosen(choice.methods, ('lora',), 'method')
  return chosen(choice.tasks, (*GLUE_TASKS, 'e2e'), 'task') if choice.tasks else (default_task,)


def _by_method(number: str, choice: Choice, default_task: str) -> Iterator[Unit]:
  """A sweep of each method; of each size of a prefix, since the longest ones fit few models."""
  known = entries.METHODS_OF_TABLE_15 if number == '15' else entries.METHODS_OF_TABLE_16
  config = 'sizes' if number == '15' else 'low_data'
  prefixes = [str(row.size) for row in entries.TABLE_15 if row.method == 'prefix_embed']
  tasks = _tasks(choice._replace(methods=()), default_task)
  methods = chosen(choice.methods, known, 'method')
  for task, method in [(task, method) for task in tasks for method in methods]:
    is_apart = (config, method) == ('sizes', 'prefix_embed')
    for sizes in prefixes if is_apart else ['']:
      yield _sweep(config, task, choice, methods=method, sizes=sizes)


def _of_texts(number: str, choice: Choice) -> Iterator[Unit]:
  config = paper.CONFIGS[number]
  chosen(choice.tasks, (config,), 'task')
  for name in chosen(choice.methods, tuple(METHODS), 'method'):
    arg = choice.argument(model=choice.model, preset=_preset(config, choice), **METHODS[name])
    yield Unit(f'{name}-seed-{{seed}}', name, config=config, arg=arg)


def _preset(task: str, choice: Choice) -> str:
  """The settings of our own for a task: of an encoder, or of a language model (_base_gpt2.py)."""
  return 'small' if task in GLUE_TASKS or choice.model == 'fresh' else 'llm'


def _sweep(config: str, task: str, choice: Choice, **values: str) -> Unit:
  preset = _preset(task, choice)
  if preset == 'small' and 'methods' in values and task != 'e2e':
    preset = 'compare'  # Which has a rate of each method.
  arg = choice.argument(task=task, model=choice.model, preset=preset, **values, seed='{seed}')
  form = ''.join(f'-{value}' for value in values.values() if value)
  return Unit(
    f'{task}-{config}{form}-seed-{{seed}}', f'{task} {config}{form}', 'sweep', config, arg
  )
