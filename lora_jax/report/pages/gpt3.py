"""The pages of table 4 and of table 15 with figure 2: GPT-3 by method and number of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lora_jax.paper import entries, printed
from lora_jax.report import charts, commands, grids, runs, scores
from lora_jax.report.document import Block, Commands, Page, Table
from lora_jax.report.pages import ablations
from lora_jax.result_schema import RunResult

PLAN = """What the paper's model takes is worked out without it ([practical claims](plan.md)):"""
TASKS = ('WikiSQL', 'MNLI-m')
MILLIONS = 'trained parameters, millions'


def table_4(found: Sequence[RunResult]) -> Page:
  """GPT-3 175B by method; ours are GPT-2s at the settings of its configs."""
  table = printed.TABLES['4']
  blocks: list[Block] = ['Eight rows of GPT-3 175B on three tasks.']
  ours = [run for run in found if run['experiment'] == 'gpt3']
  if ours:
    blocks += ['### Ours, of other models', Table(own_rows(ours), ablations.SMALLER)]
  # On a logarithmic axis: `full` trains ten thousand times what the others do.
  panels = [
    charts.Panel(f'GPT-3 (paper), {name}', MILLIONS, 'accuracy', _by_method(table.rows, name), 10)
    for name in TASKS
  ]
  how = ablations.GPT3.replace('wikisql or mnli_text', 'wikisql, mnli_text or samsum')
  blocks += [
    charts.chart('table-4', 'accuracy over trained parameters', panels),
    "### The paper's",
    Table(table.rows, f'{table.caption}. Ours: not run.'),
    Commands(how, commands.table_4()),
    Commands(PLAN, [commands.PLAN]),
  ]
  state = ', '.join(dict.fromkeys(f'{runs.model_name(run)} {run["task"]}' for run in ours))
  return Page('table-4', 'Table 4: GPT-3 175B', state, blocks)


def table_15(found: Sequence[RunResult]) -> Page:
  """The grid of table 15, drawn as figure 2; ours are its rows of LoRA."""
  table = printed.TABLES['15']
  sweeps = [run for run in found if run['experiment'] in ('matrices', 'rank')]
  made = [
    grid
    for grid in grids.grids(sweeps, grids.RANK_AND_TARGETS)
    if sum(map(bool, _of_settings(grid).values())) > 1
  ]
  blocks: list[Block] = ['Methods by the number of parameters that they train; figure 2 draws it.']
  panels = []
  for grid in made:
    blocks += _ours(grid)
    panels.append(_panel(grid))
  panels += [
    charts.Panel(f'GPT-3 (paper), {name}', MILLIONS, 'accuracy', _by_method(table.rows, name), 10)
    for name in TASKS
  ]
  if not made:
    line = commands.ablation('matrices', 'task=cola,model=path/to/encoder,preset=small,rows=15')
    blocks.append(Commands('Ours: not run. On a small encoder, three seeds:', [line]))
  blocks += [
    charts.chart('table-15', 'figure 2: accuracy over trained parameters', panels),
    "### The paper's",
    Table(table.rows, f'{table.caption}. Ours: not run.'),
    Commands(ablations.GPT3, commands.table_15()),
  ]
  state = '; '.join(grid.title for grid in made)
  return Page('table-15', 'Table 15 and figure 2: methods by size', state, blocks)


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


def _of_settings(grid: grids.Grid) -> dict[str, list[RunResult]]:
  """The runs of each of table 15's settings of LoRA, by the number of adapted matrices."""
  settings = sorted(entries.LORA_OF_TABLE_15.items(), key=lambda item: len(item[1][0]))
  return {setting: grid.select(weights=weights, rank=rank) for setting, (weights, rank) in settings}


def _ours(grid: grids.Grid) -> list[Block]:
  groups = _of_settings(grid)
  rows = [
    {
      'setting': setting,
      'params': f'{group[0]["parameters"]["trainable_without_head"]:,}' if group else '-',
      grid.metric: scores.entry(group),
      'seeds': runs.seeds(group) or '-',
    }
    for setting, group in groups.items()
  ]
  caption = f'{ablations.SMALLER} Rows of tables 5 and 6 stand here again, by their size.'
  blocks: list[Block] = [f'### Ours, LoRA: {grid.title}', Table(rows, caption)]
  if not all(groups.values()):
    line = commands.complete(grid.runs[0], 'matrices', rows='15')
    blocks.append(Commands('What was not run:', [line]))
  return blocks


def _panel(grid: grids.Grid) -> charts.Panel:
  done = sorted(
    (group[0]['parameters']['trainable_without_head'] / 1e6, scores.best(group))
    for group in _of_settings(grid).values()
    if group
  )
  y = charts.mean_and_spread([values for _, values in done])
  series = charts.Series('LoRA', [size for size, _ in done], *y, joined=False)
  return charts.Panel(f'ours: {grid.title}', MILLIONS, grid.metric, [series], 10)


def _by_method(rows: Sequence[Mapping[str, str]], column: str) -> list[charts.Series]:
  series = []
  for method in dict.fromkeys(row['method'] for row in rows):
    own = [row for row in rows if row['method'] == method]
    x = [printed.millions(row['params']) for row in own]
    y = [printed.value(row[column]) for row in own]
    series.append(charts.Series(method, x, y, joined=False))
  return series
