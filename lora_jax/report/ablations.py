"""The pages of tables 5, 6, 16 and 18: which matrices, which rank, how many examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_jax.report import charts, grids, measured, paper, tables, texts
from lora_jax.report.grids import Grid
from lora_jax.report.page import Block, Commands, Page, Table

Run = Mapping[str, Any]
MATRICES = ('Wq', 'Wk', 'Wv', 'Wo', 'Wq,Wk', 'Wq,Wv', 'Wq,Wk,Wv,Wo')
RANKS_OF_5 = dict(zip(MATRICES, (8, 8, 8, 8, 4, 4, 2)))
RANKS_OF_6 = (1, 2, 4, 8, 64)
WEIGHTS_OF_6 = ('Wq', 'Wq,Wv', 'Wq,Wk,Wv,Wo')
LIMITS = {'100': 100, '1k': 1_000, '10k': 10_000, 'all': 0}
GPT3 = """GPT-3's weights are not published: these cells cannot be run. The nearest that can is
GPT-2 XL at the paper's settings (DIR holds the data; for TASK put wikisql or mnli_text):"""
SMALLER = """Another model and task than the paper's: what to compare is the shape, which cells are
above which and by how many spreads, not the values. A run counts by its best epoch on the dev set;
mean ± sample standard deviation over seeds, times 100 but for losses."""


def table_5(runs: Sequence[Run], commands: Mapping[str, str]) -> Page:
  """Which matrices under one budget; runs of a rank sweep with the same settings count as well."""
  found = _grids(runs, lambda grid: [grid.cell(weights=w, rank=r) for w, r in RANKS_OF_5.items()])
  blocks: list[Block] = [
    'One budget of parameters, spent on one, two or four attention matrices of every layer.'
  ]
  panels = []
  for grid in found:
    cells = {name: grid.cell(weights=name, rank=rank) for name, rank in RANKS_OF_5.items()}
    rows = [
      {'': 'rank r', **{name: str(rank) for name, rank in RANKS_OF_5.items()}},
      {'': grid.metric, **{name: measured.cell(cell) for name, cell in cells.items()}},
    ]
    labelled = {(('weights', name), ('r', str(RANKS_OF_5[name]))): c for name, c in cells.items()}
    blocks += _ours(grid, rows, labelled, 'matrices')
    panels.append(_panel(grid, {'': cells}, 'adapted', joined=False))
  printed = paper.TABLES['5']
  series = [
    charts.Series('', MATRICES, [paper.value(row[name]) for name in MATRICES], spread, False)
    for row, spread in zip(printed.rows[1:], ([0.5] * 7, [0.1] * 7))  # Of the caption.
  ]
  panels += [
    charts.Panel(f'GPT-3 (paper), {row["task"]}', 'adapted', 'accuracy', [one])
    for row, one in zip(printed.rows[1:], series)
  ]
  lines = [commands[f'5/{name}'] for name in MATRICES]
  blocks += _papers('5', 'matrices', panels, lines, found)
  return Page('table-5', 'Table 5: which matrices', _state(found), blocks)


def table_6(runs: Sequence[Run], commands: Mapping[str, str]) -> Page:
  """The rank, by matrices."""
  places = [(w, r) for w in WEIGHTS_OF_6 for r in RANKS_OF_6]
  found = _grids(runs, lambda grid: [grid.cell(weights=w, rank=r) for w, r in places])
  blocks: list[Block] = [
    'The same rank in the query alone, in query and value, in all four matrices.'
  ]
  panels = []
  for grid in found:
    by_weights = {w: {r: grid.cell(weights=w, rank=r) for r in RANKS_OF_6} for w in WEIGHTS_OF_6}
    rows = [
      {'weights': w, **{f'r={r}': measured.cell(cell) for r, cell in cells.items()}}
      for w, cells in by_weights.items()
    ]
    labelled = {(('weights', w), ('r', str(r))): by_weights[w][r] for w, r in places}
    blocks += _ours(grid, rows, labelled, 'rank')
    panels.append(_panel(grid, by_weights, 'rank', log=2))
  printed = paper.TABLES['6']
  for task in dict.fromkeys(row['task'] for row in printed.rows):
    series = [
      charts.Series(row['weights'], RANKS_OF_6, [paper.value(row[f'r={r}']) for r in RANKS_OF_6])
      for row in printed.rows
      if row['task'] == task
    ]
    panels.append(charts.Panel(f'GPT-3 (paper), {task}', 'rank', 'accuracy', series, 2))
  lines = [commands[f'6/{w}'] for w in WEIGHTS_OF_6]
  blocks += _papers('6', 'rank', panels, lines, found)
  return Page('table-6', 'Table 6: the rank', _state(found), blocks)


def table_16(runs: Sequence[Run], commands: Mapping[str, str]) -> Page:
  """Few examples."""
  chosen = [run for run in runs if run['experiment'] == 'low_data']
  found = grids.grids(chosen, ('data.limit', 'train.epochs'))
  blocks: list[Block] = [
    'A number of training examples, drawn anew for each seed; all of the dev set.'
  ]
  panels = []
  for grid in found:
    known = {title: limit for title, limit in LIMITS.items()}
    known |= {
      f'{limit:,}': limit
      for limit in sorted({grids.FIELDS['limit'](run) for run in grid.runs})
      if limit not in known.values()
    }
    cells = {title: grid.cell(limit=limit) for title, limit in known.items()}
    method = 'LoRA' if grid.runs[0]['method'] == 'lora' else grid.runs[0]['method']
    rows = [{'method': method, **{n: measured.cell(c) for n, c in cells.items()}}]
    labelled = {(('examples', name),): cell for name, cell in cells.items()}
    blocks += _ours(grid, rows, labelled, 'low_data')
    panels.append(_panel(grid, {method: cells}, 'training examples'))
  printed = paper.TABLES['16']
  names = [name for name in printed.rows[0] if name != 'method']
  series = [
    charts.Series(row['method'], names, [paper.value(row[name]) for name in names])
    for row in printed.rows
  ]
  panels.append(charts.Panel('GPT-3 (paper), MNLI', 'training examples', 'accuracy', series))
  lines = [commands[f'16/{row["method"]}'] for row in printed.rows]
  blocks += _papers('16', 'low_data', panels, lines, found)
  return Page('table-16', 'Table 16: few training examples', _state(found), blocks)


def table_18(runs: Sequence[Run], commands: Mapping[str, str]) -> Page:
  """The rank of GPT-2 on E2E: loss, and scores where the test set was decoded."""
  chosen = [run for run in runs if run['experiment'] == 'rank' and run['task'] == 'e2e']
  found = grids.grids(chosen, grids.RANK_AND_TARGETS)
  printed = paper.TABLES['18']
  ranks = [int(row['r']) for row in printed.rows]
  blocks: list[Block] = [
    'Query and value of GPT-2 at ranks up to 1024: past some rank nothing falls.'
  ]
  panels = []
  for grid in found:
    cells = {rank: grid.cell(rank=rank) for rank in ranks}
    rows = [
      {'r': str(rank), 'dev loss': measured.cell(cell), **_scores(cell)}
      for rank, cell in cells.items()
    ]
    blocks += _ours(grid, rows, {(('r', str(r)),): cell for r, cell in cells.items()}, 'rank')
    panels.append(_panel(grid, {'': cells}, 'rank', log=2))
    bleu = {rank: values for rank, cell in cells.items() if (values := _decoded(cell)['BLEU'])}
    if bleu:
      series = [charts.Series('', list(bleu), *charts.mean_and_spread(list(bleu.values())))]
      panels.append(charts.Panel(f'ours: {grid.title}', 'rank', 'BLEU', series, 2))
  for name in ('val_loss', 'BLEU'):
    series = [charts.Series('', ranks, [paper.value(row[name]) for row in printed.rows])]
    panels.append(charts.Panel('GPT-2 medium (paper)', 'rank', name, series, 2))
  if not found:
    line = example('rank', 'task=e2e,model=runs/pretrain')
    blocks.append(Commands('Ours: not run. On the base of configs/pretrain.py, 3 seeds:', [line]))
  medium = [grid for grid in found if grid.runs[0]['cell'] == 'table 18']
  blocks += [
    charts.chart('table-18', 'loss and BLEU over the rank', panels),
    "### The paper's",
    Table(printed.rows, f'{printed.caption}. Ours: {"above" if medium else "not run"}.'),
  ]
  if not medium:
    blocks.append(Commands('Not run:', [commands['18']]))
  return Page('table-18', 'Table 18: the rank of GPT-2 on E2E', _state(found), blocks)


def _scores(cell: Sequence[Run]) -> dict[str, str]:
  return {name: tables.spread(x, 2) if x else '-' for name, x in _decoded(cell).items()}


def _decoded(cell: Sequence[Run]) -> dict[str, list[float]]:
  """The scores of the runs that decoded, by column; none where no run did."""
  decoded = [run for run in cell if 'generated' in run]
  return {name: texts.scores(decoded, column) for name, column in texts.E2E.items()}


def _grids(runs: Sequence[Run], cells: Any) -> list[Grid]:
  """Grids on encoders with at least two of the cells of a table."""
  chosen = [
    run for run in runs if run['experiment'] in ('matrices', 'rank') and run['task'] != 'e2e'
  ]
  found = grids.grids(chosen, grids.RANK_AND_TARGETS)
  return [grid for grid in found if sum(map(bool, cells(grid))) > 1]


def _ours(
  grid: Grid, rows: Sequence[Mapping[str, str]], cells: Mapping[Any, Sequence[Run]], config: str
) -> list[Block]:
  blocks: list[Block] = [
    f'### Ours: {grid.title}',
    Table(rows, f'{SMALLER} {grids.seeds(list(cells.values()))}.'),
    Table(grids.details(cells), 'How each was obtained', folded=True),
  ]
  if any(not cell for cell in cells.values()):
    blocks.append(Commands('What was not run:', [grids.sweep(grid.runs[0], config)]))
  return blocks


def _papers(
  number: str, config: str, panels: Sequence[charts.Panel], lines: Sequence[str],
  found: Sequence[Grid],
) -> list[Block]:  # fmt: skip
  printed = paper.TABLES[number]
  blocks: list[Block] = []
  if not found:
    blocks.append(Commands('Ours: not run. On a small encoder, three seeds:', [example(config)]))
  return [
    *blocks,
    charts.chart(f'table-{number}', 'ours and the paper side by side', panels),
    "### The paper's",
    Table(printed.rows, f'{printed.caption}. Ours: not run.'),
    Commands(GPT3, lines),
  ]


def example(config: str, arg: str = 'task=cola,model=path/to/encoder,preset=small') -> str:
  """The command of a sweep of an ablation."""
  return (
    f'python -m experiments.sweep --config=configs/{config}.py:{arg} '
    f'--workdir=runs/{config} --config.data.dir=DIR'
  )


def _panel(
  grid: Grid, lines: Mapping[str, Mapping[Any, Sequence[Run]]], x: str, log: int = 0,
  joined: bool = True,
) -> charts.Panel:  # fmt: skip
  series = []
  for label, cells in lines.items():
    done = {place: measured.scores(cell) for place, cell in cells.items() if cell}
    values, spreads = charts.mean_and_spread(list(done.values()))
    if done:
      series.append(charts.Series(label, list(done), values, spreads, joined))
  return charts.Panel(f'ours: {grid.title}', x, grid.metric, series, log)


def _state(found: Sequence[Grid]) -> str:
  return '; '.join(grid.title for grid in found)
