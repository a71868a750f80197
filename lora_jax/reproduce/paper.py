"""The runs behind the paper's tables and figures, of the paper's own models and settings.

GPT-3's weights are not published: its tables are trained on GPT-2 XL, the largest model of its kind
whose weights are. A row's `{seed}` is filled in by `units.with_seeds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_jax.errors import nearest
from lora_jax.paper import entries, printed, settings, translation
from lora_jax.reproduce.units import Choice, Select, Unit

CONFIGS = {'2': 'glue', '3': 'e2e', '13': 'dart', '14': 'webnlg'}
FROM_MNLI = ('mrpc', 'rte', 'stsb')  # Of the paper's own setup: they start from MNLI's factors.
QUOTED = 'quoted by the paper from earlier work, which has no settings of it'
GPT3_TASKS = {
  '4': tuple(settings.GPT3_LENGTHS),
  '16': ('mnli_text',),
  **dict.fromkeys(('5', '6', '15'), ('wikisql', 'mnli_text')),
}
# Figures 3 and 6 compare two ranks, 4 and 7 two seeds; 8 and table 7 are of one update.
SELECTIONS: Mapping[str, tuple[tuple[Select, ...], ...]] = {
  'figure-3': ((Select(8, 0), Select(64, 0)),),
  'figure-4': ((Select(64, 0), Select(64, 1)),),
  'figure-8': ((Select(8, 0),),),
  'table-7': ((Select(4, 0),), (Select(64, 0),)),
}
SAME_FIGURE = {'6': '3', '7': '4'}
SEEDS_OF_TABLE_2 = 5


def rows(kind: str, number: str, choice: Choice) -> list[Unit]:
  """The rows of a table or figure; each is one run of every seed.

  Raises:
    ValueError: for a task that the table does not have.
  """
  if kind == 'figure' and number == '2':
    number = '15'  # It draws the scores of these rows over their numbers of parameters.
  if number == '2':
    return list(_of_glue(choice))
  if number in CONFIGS:
    return list(_of_gpt2(number, choice))
  if number == '18':
    chosen(choice.tasks, ('e2e',), 'task')
    chosen(choice.methods, ('lora',), 'method')
    arg = choice.argument(task='e2e', model='gpt2-medium', rows='18', seed='{seed}')
    return [Unit('e2e-ranks-seed-{seed}', 'ranks', 'sweep', 'rank', arg)]
  return of_gpt3(number, choice)


def ranks_of(what: str) -> tuple[int, ...]:
  """The ranks that the commands of a figure or table read."""
  return tuple(dict.fromkeys(one.rank for of in SELECTIONS[what] for one in of))


def analyzed(kind: str, number: str, choice: Choice) -> list[Unit]:
  """The runs of a figure or table of section 7, of query and value of GPT-2 XL."""
  what = analysis_of(kind, number)
  task = one_of(
    chosen(choice.tasks, GPT3_TASKS['6'], 'task') if choice.tasks else ('wikisql',), what
  )
  made = []
  for rank in ranks_of(what):
    seeds = {one.seed for of in SELECTIONS[what] for one in of if one.rank == rank}
    row = _adapted(task, 'Wq,Wv', rank, choice)
    made += [row._replace(name=row.name.replace('{seed}', str(s)), seed=s) for s in sorted(seeds)]
  return made


def analysis_of(kind: str, number: str) -> str:
  """`figure-3` of figure 6: the two are pictures of one analysis; '' for what is none."""
  number = SAME_FIGURE.get(number, number) if kind == 'figure' else number
  return f'{kind}-{number}' if f'{kind}-{number}' in SELECTIONS else ''


def measurements(what: str, base: str) -> list[Unit]:
  """The commands that analyze the runs behind a figure or table of section 7.

  Args:
    what: as `analysis_of`.
    base: the model, which their folders are named after.
  """
  made = []
  for selects in SELECTIONS[what]:
    last = '-'.join(f'r{one.rank}' for one in selects)
    name = f'{what}-{base}' + (f'-{last}' if len(SELECTIONS[what]) > 1 else '')
    made.append(Unit(name, f'{what} ({last})', 'analyze', selects=selects, seed=selects[-1].seed))
  return made


def latency(kind: str, model: str) -> list[Unit]:
  """The measurement of table 1, and with its grid that of figure 5."""
  flags = (f'--model={model}',) if model else ()
  grid = ('--grid',) if kind == 'figure' else ()
  known = not model or model.startswith('gpt2')
  why_not = '' if known else 'experiments.latency times the presets of GPT-2, such as gpt2-large'
  return [Unit('latency', 'forward passes', 'latency', flags=flags + grid, why_not=why_not)]


def chosen(wanted: tuple[str, ...], known: tuple[str, ...], what: str) -> tuple[str, ...]:
  """The wanted names, or all known ones if none is wanted.

  Raises:
    ValueError: for a name that is not known, with the nearest.
  """
  for name in wanted:
    if name not in known:
      raise ValueError(f'--{what}s: unknown {what} {name!r} of this table. {nearest(name, known)}')
  return wanted or known


def one_of(tasks: tuple[str, ...], what: str) -> str:
  """The one task whose runs are analyzed.

  Raises:
    ValueError: for several.
  """
  if len(tasks) > 1:
    raise ValueError(f'--tasks={",".join(tasks)}: {what} is of the runs of one task')
  return tasks[0]


def argument(entry: entries.Entry) -> dict[str, str]:
  """What picks an entry's settings in a config's argument."""
  values = {'method': entry.method}
  if 'bottleneck' in entry.options:
    values['bottleneck'] = str(entry.options['bottleneck'])
  return values | ({'preset': 'adapter_setup'} if entry.adapter_setup else {})


def _name(entry: entries.Entry) -> str:
  setup = '-adapter_setup' if entry.adapter_setup else ''
  return f'{entry.model}-{entry.method}-{entry.printed.replace(",", "")}{setup}'


def _of_glue(choice: Choice) -> Iterator[Unit]:
  known = tuple(entry.method for entry in entries.TABLE_2)
  methods = chosen(choice.methods, tuple(dict.fromkeys(known)), 'method')
  tasks = chosen(choice.tasks, settings.GLUE_TASKS, 'task')
  for entry in entries.TABLE_2:
    if entry.method not in methods:
      continue
    name = _name(entry)
    if entry.quoted:
      yield Unit(name, name, why_not=QUOTED)
      continue
    for task in tasks:
      start = f'mnli-{name}-seed-0' if task in FROM_MNLI and not entry.adapter_setup else ''
      why_not = 'it starts from the run of mnli: add mnli to --tasks' if start else ''
      arg = choice.argument(task=task, model=entry.model, **argument(entry))
      yield Unit(
        f'{task}-{name}-seed-{{seed}}',
        f'{task} {name}',
        config='glue',
        arg=arg,
        starts_from=start,
        why_not='' if 'mnli' in tasks else why_not,
        part=name,
      )


def _of_gpt2(number: str, choice: Choice) -> Iterator[Unit]:
  chosen(choice.tasks, (CONFIGS[number],), 'task')
  rows = {'3': entries.TABLE_3, '13': entries.TABLE_13, '14': entries.TABLE_14}[number]
  known = tuple(dict.fromkeys(row.method for row in rows))
  methods = chosen(choice.methods, known, 'method')
  for entry in rows:
    if entry.method in methods:
      name = _name(entry)
      arg = choice.argument(model=entry.model, **argument(entry))
      why_not = QUOTED if entry.quoted else ''
      yield Unit(f'{name}-seed-{{seed}}', name, config=CONFIGS[number], arg=arg, why_not=why_not)


def of_gpt3(number: str, choice: Choice) -> list[Unit]:
  """The rows of a table of GPT-3: on GPT-2 XL, or on the model that is chosen.

  Raises:
    ValueError: for a task or a method that the table does not have.
  """
  tasks = chosen(choice.tasks, GPT3_TASKS[number], 'task')
  rows = [(row, _method(row)) for task in tasks for row in _on_task(number, task, choice)]
  methods = chosen(choice.methods, tuple(dict.fromkeys(method for _, method in rows)), 'method')
  return [row for row, method in rows if method in methods]


def _method(row: Unit) -> str:
  return row.arg.partition('method=')[2].partition(',')[0]


def _on_task(number: str, task: str, choice: Choice) -> Iterator[Unit]:
  if number == '5':
    for weights, rank in entries.TABLE_5.items():
      yield _adapted(task, weights, rank, choice)
  elif number == '6':
    for weights in entries.WEIGHTS_OF_TABLE_6:
      for rank in entries.RANKS_OF_TABLE_6:
        yield _adapted(task, weights, rank, choice)
  elif number == '4':
    yield from _table_4(task, choice)
  elif number == '15':
    yield from _table_15(task, choice)
  else:
    for row in printed.TABLES['16'].rows:
      method = translation.METHODS[row['method']]
      size = 'high' if method == 'lora' else ''
      for examples in settings.TABLE_17:
        values = {'method': method, 'size': size, 'examples': examples}
        yield _gpt3(task, f'{method}-{examples}', values, choice)


def _table_4(task: str, choice: Choice) -> Iterator[Unit]:
  methods = [row.method for row in entries.TABLE_4]
  for place, method in enumerate(methods):
    size = ('low', 'high')[methods[:place].count(method)] if methods.count(method) > 1 else ''
    name = f'{method}-{size}' if size else method
    yield _gpt3(task, name, {'method': method, 'size': size}, choice)


def _table_15(task: str, choice: Choice) -> Iterator[Unit]:
  for row, texts in zip(entries.TABLE_15, printed.TABLES['15'].rows, strict=True):
    fields: dict[str, object] = {
      f'method.{name}': row.options[name]
      for name in ('bottleneck', 'prefix', 'infix')
      if name in row.options
    }
    if adapted := entries.weights_and_rank(texts['setting']):
      weights, rank = adapted
      fields |= _lora_fields(weights, rank)
    setting = texts['setting'].replace(' ', ',').replace('-', '')
    name = f'{row.method}-{setting}' if setting else row.method
    yield _gpt3(task, name, {'method': row.method}, choice, fields)


def _adapted(task: str, weights: str, rank: int, choice: Choice) -> Unit:
  """LoRA on the paper's matrices; alpha is the rank, as in the config."""
  letters = weights.replace('W', '').replace(',', '')
  fields = _lora_fields(weights, rank)
  return _gpt3(task, f'lora-{letters}-r{rank}', {'method': 'lora'}, choice, fields)


def _lora_fields(weights: str, rank: int) -> dict[str, object]:
  targets = translation.targets(weights)
  return {'method.rank': rank, 'method.alpha': float(rank), 'method.targets': targets}


def _gpt3(
  task: str,
  name: str,
  values: Mapping[str, str],
  choice: Choice,
  fields: Mapping[str, object] | None = None,
) -> Unit:
  arg = choice.argument(task=task, model=choice.model or 'gpt2-xl', **values)
  return Unit(
    f'{task}-{name}-seed-{{seed}}', f'{task} {name}', config='gpt3', arg=arg, fields=fields or {}
  )
