"""The pages of table 4 and of table 15 with figure 2: GPT-3 by method and number of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_jax.report import ablations, charts, grids, measured, paper, results, tables
from lora_jax.report.page import Block, Commands, Page, Table

PLAN = """What the paper's model takes is worked out without it ([practical claims](plan.md)):"""
TASKS = {'WikiSQL': 'wikisql', 'MNLI-m': 'mnli_text'}
# Rows of LoRA in table 15: the paper's setting -> weights, rank.
LORA = {
  'rv=2': ('Wv', 2),
  **{f'rq=rv={rank}': ('Wq,Wv', rank) for rank in (1, 2, 4, 8, 64)},
  **{f'rq=rk=rv=ro={rank}': ('Wq,Wk,Wv,Wo', rank) for rank in (1, 2, 4, 64)},
}
Run = Mapping[str, Any]


def table_4(runs: Sequence[Run], commands: Mapping[str, str]) -> Page:
  """GPT-3 175B by method; ours are GPT-2s at the settings of its configs."""
  printed = paper.TABLES['4']
  blocks: list[Block] = ['Eight rows of GPT-3 175B on three tasks.']
  ours = [run for run in runs if run['experiment'] == 'gpt3']
  if ours:
    blocks += ['### Ours, of other models', Table(own_rows(ours), ablations.SMALLER)]
  panels = [
    charts.Panel(f'GPT-3 (paper), {name}', 'trained parameters, millions', 'accuracy', series, 10)
    for name in TASKS
    for series in [_by_method(printed.rows, name)]
  ]
  # `full` trains ten thousand times what the others do.
  lines = [commands[f'4/{i}'] for i in range(len(printed.rows))]
  blocks += [
    charts.chart('table-4', 'accuracy over trained parameters', panels),
    "### The paper's",
    Table(printed.rows, f'{printed.caption}. Ours: not run.'),
    Commands(ablations.GPT3.replace('wikisql or mnli_text', 'wikisql, mnli_text or samsum'), lines),
    Commands(PLAN, [commands['plan']]),
  ]
  return Page('table-4', 'Table 4: GPT-3 175B', _state(ours), blocks)


def table_15(runs: Sequence[Run], commands: Mapping[str, str]) -> Page:
  """The grid of table 15, drawn as figure 2; ours are its rows of LoRA."""
  printed = paper.TABLES['15']
  chosen = [run for run in runs if run['experiment'] in ('matrices', 'rank')]
  found = [
    grid
    for grid in grids.grids(chosen, grids.RANK_AND_TARGETS)
    if sum(bool(grid.cell(weights=w, rank=r)) for w, r in LORA.values()) > 1
  ]
  blocks: list[Block] = ['Methods by the number of parameters that they train; figure 2 draws it.']
  panels = []
  for grid in found:
    cells = {name: grid.cell(weights=w, rank=r) for name, (w, r) in LORA.items()}
    rows = [
      {
        'setting': name,
        'params': f'{cell[0]["parameters"]["trainable_without_head"]:,}' if cell else '-',
        grid.metric: measured.cell(cell),
        'seeds': measured.seeds(cell) or '-',
      }
      for name, cell in cells.items()
    ]
    caption = f'{ablations.SMALLER} Rows of tables 5 and 6 stand here again, by their size.'
    blocks += [f'### Ours, LoRA: {grid.title}', Table(rows, caption)]
    if any(not cell for cell in cells.values()):
      line = grids.sweep(grid.runs[0], 'matrices', rows='15')
      blocks.append(Commands('What was not run:', [line]))
    done = sorted(
      (cell[0]['parameters']['trainable_without_head'] / 1e6, measured.scores(cell))
      for cell in cells.values()
      if cell
    )
    values, spreads = charts.mean_and_spread([scores for _, scores in done])
    series = charts.Series('LoRA', [size for size, _ in done], values, spreads, joined=False)
    title, x = f'ours: {grid.title}', 'trained parameters, millions'
    panels.append(charts.Panel(title, x, grid.metric, [series], 10))
  for name in TASKS:
    title, x = f'GPT-3 (paper), {name}', 'trained parameters, millions'
    panels.append(charts.Panel(title, x, 'accuracy', _by_method(printed.rows, name), 10))
  if not found:
    line = ablations.example('matrices', 'task=cola,model=path/to/encoder,preset=small,rows=15')
    blocks.append(Commands('Ours: not run. On a small encoder, three seeds:', [line]))
  lines = [commands[f'15/{i}'] for i in range(len(printed.rows)) if f'15/{i}' in commands]
  blocks += [
    charts.chart('table-15', 'figure 2: accuracy over trained parameters', panels),
    "### The paper's",
    Table(printed.rows, f'{printed.caption}. Ours: not run.'),
    Commands(ablations.GPT3, lines),
  ]
  state = '; '.join(grid.title for grid in found)
  return Page('table-15', 'Table 15 and figure 2: methods by size', state, blocks)


def own_rows(runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each group of seeds: dev metric, and the scores of what was decoded."""
  rows = []
  groups = results.grouped(runs)
  for group in groups:
    first = group[0]
    decoded = [run['generated']['scores'] for run in group if 'generated' in run]
    names = dict.fromkeys(name for scores in decoded for name in scores)
    texts = [
      f'{name} {tables.spread([scores[name] for scores in decoded])}'
      for name in names
      if all(isinstance(scores.get(name), int | float) for scores in decoded)
    ]
    label = {
      'task': first['task'],
      'model': measured.short(first['model']),
      'method': tables.method(first),
      'settings': results.settings(first, [other[0] for other in groups]),
      'metric': first['metric'],
      'decoded': ', '.join(texts) or '-',
    }
    rows.append(measured.detail(label, group))
  return rows


def _by_method(rows: Sequence[Mapping[str, str]], column: str) -> list[charts.Series]:
  found = []
  for method in dict.fromkeys(row['method'] for row in rows):
    own = [row for row in rows if row['method'] == method]
    x = [paper.millions(row['params']) for row in own]
    found.append(charts.Series(method, x, [paper.value(row[column]) for row in own], joined=False))
  return found


def _state(runs: Sequence[Run]) -> str:
  return ', '.join(dict.fromkeys(f'{measured.short(r["model"])} {r["task"]}' for r in runs))
