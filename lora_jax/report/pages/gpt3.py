"""The pages of table 4 and of table 15 with figure 2: GPT-3 by method and number of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lora_jax.paper import entries, printed, translation
from lora_jax.report import charts, grids, runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.report.pages import ablations
from lora_jax.result_schema import RunResult

TASKS = ('WikiSQL', 'MNLI-m')
MILLIONS = 'trained parameters, millions'
Setting = tuple[str, str]  # A method, and its setting as table 15 prints it.


def table_4(found: Sequence[RunResult]) -> Page:
  """GPT-3 175B by method; ours are GPT-2s at the settings of its configs."""
  ours = [run for run in found if run['experiment'] == 'gpt3']
  blocks: list[Block] = ['The methods of GPT-3 175B on three tasks.']
  if ours:
    blocks += ['### Ours, of other models', Table(own_rows(ours), ablations.SMALLER)]
  blocks += _of_paper('4', [])
  state = ', '.join(dict.fromkeys(f'{runs.model_name(run)} {run["task"]}' for run in ours))
  return Page('table-4', 'Table 4: GPT-3 175B', state, blocks, 'table=4')


def table_15(found: Sequence[RunResult], levels: scores.Levels) -> Page:
  """The grid of table 15, drawn as figure 2."""
  sweeps = [run for run in found if run['experiment'] in ('sizes', 'matrices', 'rank')]
  made = [
    grid for grid in grids.grids(sweeps, ('method', 'optim.lr')) if len(_of_settings(grid)) > 1
  ]
  blocks: list[Block] = ['Methods by the number of parameters that they train; figure 2 draws it.']
  panels = []
  for grid in made:
    blocks += _ours(grid, levels)
    panels.append(_panel(grid, levels))
  blocks += _of_paper('15', panels)
  state = '; '.join(grid.title for grid in made)
  return Page('table-15', 'Table 15 and figure 2: methods by size', state, blocks, 'table=15')


def own_rows(found: Sequence[RunResult]) -> list[dict[str, str]]:
  """A row for each group of seeds: dev metric, and the scores of what was decoded."""
  rows = []
  groups = runs.by_seed(found)
  for group in groups:
    first = group[0]
    decoded = [run['generated']['scores'] for run in group if 'generated' in run]
    names = dict.fromkeys(name for of_run in decoded for name in of_run)
    texts = [
      f'{name} {scores.spread([of_run[name] for of_run in decoded])}'
      for name in names
      if all(isinstance(of_run.get(name), int | float) for of_run in decoded)
    ]
    label = {
      'task': first['task'],
      'model': runs.model_name(first),
      'method': runs.method_name(first),
      'settings': runs.settings(first, [other[0] for other in groups]),
      'metric': first['metric'],
      'decoded': ', '.join(texts) or '-',
    }
    rows.append(scores.detail(label, group))
  return rows


def _of_settings(grid: grids.Grid) -> dict[Setting, list[RunResult]]:
  """The runs of each of table 15's rows that has any, by method and setting; LoRA first."""
  found = {}
  for entry, row in zip(entries.TABLE_15, printed.TABLES['15'].rows, strict=True):
    wanted = {k: v for k, v in entry.options.items() if k != 'targets'}
    if adapted := entries.weights_and_rank(row['setting']):
      wanted['weights'] = adapted[0]
    if group := grid.select(method=entry.method, **wanted):
      found[entry.method, row['setting']] = group
  n_matrices = lambda setting: setting[1].count('=')
  return {
    key: found[key]
    for key in sorted(found, key=lambda key: (charts.order(key[0]), n_matrices(key)))
  }


def _ours(grid: grids.Grid, levels: scores.Levels) -> list[Block]:
  groups = _of_settings(grid)
  texts = [scores.entry(group, levels) for group in groups.values()]
  values = [scores.best(group) for group in groups.values()]
  rows = [
    {
      'method': charts.method(method).name,
      'setting': setting,
      'trained (without head)': f'{_size(group):,}',
      scores.unit(grid.metric): text,
      'learning rate': f'{runs.rate(group[0]):g}',
      'seeds': runs.seeds(group),
    }
    for ((method, setting), group), text in zip(
      groups.items(), scores.bold(texts, values, grid.metric), strict=True
    )
  ]
  caption = (
    f'{ablations.SMALLER} {scores.BOLD} Rows of tables 5 and 6 stand here again, by their size.'
  )
  return [f'### Ours: {grid.title}', Table(rows, caption)]


def _size(group: Sequence[RunResult]) -> int:
  return group[0]['parameters']['trainable_without_head']


def _panel(grid: grids.Grid, levels: scores.Levels) -> charts.Panel:
  groups = _of_settings(grid)
  series = []
  for method in dict.fromkeys(method for method, _ in groups):
    done = sorted((_size(x), scores.best(x)) for (own, _), x in groups.items() if own == method)
    y = charts.mean_and_spread([values for _, values in done])
    sizes = [size / 1e6 for size, _ in done]
    series.append(charts.Series(charts.method(method).name, sizes, *y, joined=False, method=method))
  level = scores.constant(grid.runs[0], levels)
  line = None if level is None else ('one prediction for all', level)
  unit = scores.unit(grid.metric)
  return charts.Panel(f'ours: {grid.title}', MILLIONS, unit, series, 10, line=line)


def _of_paper(number: str, panels: Sequence[charts.Panel]) -> list[Block]:
  """The picture of ours and the paper's rows, and its table."""
  table = printed.TABLES[number]
  # On a logarithmic axis: `full` trains ten thousand times what the others do.
  of_paper = [
    charts.Panel(
      f'GPT-3 (paper), {name}', MILLIONS, 'accuracy, %', _by_method(table.rows, name), 10
    )
    for name in TASKS
  ]
  return [
    charts.chart(f'table-{number}', 'scores over trained parameters', [*panels, *of_paper]),
    "### The paper's",
    Table(table.rows, f'{table.caption}.'),
  ]


def _by_method(rows: Sequence[Mapping[str, str]], column: str) -> list[charts.Series]:
  series = []
  for name in dict.fromkeys(row['method'] for row in rows):
    own = [row for row in rows if row['method'] == name]
    x = [printed.millions(row['params']) for row in own]
    y = [printed.value(row[column]) for row in own]
    method = translation.METHODS[name]
    label = charts.method(method).name
    series.append(charts.Series(label, x, y, joined=False, method=method))
  return series
