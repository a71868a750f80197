"""The page of table 2: methods on GLUE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_jax.report import charts, comparison, measured, paper, published, results, tables
from lora_jax.report.page import Block, Commands, Page, Table

COLUMNS = {
  'MNLI': 'mnli', 'SST-2': 'sst2', 'MRPC': 'mrpc', 'CoLA': 'cola', 'QNLI': 'qnli', 'QQP': 'qqp',
  'RTE': 'rte', 'STS-B': 'stsb',
}  # fmt: skip
ABOUT = """What each method reaches on the dev sets. A run counts by its best epoch, as in the
paper; CoLA is Matthews, STS-B Pearson, the others accuracy, times 100; mean ± sample standard
deviation over seeds."""
OTHERS = """Runs of other models than the paper's are no reproduction of its rows: compare what a
method makes of a model with what another makes of it, not one model with another."""
WARM = """MRPC, RTE and STS-B start from the best MNLI run, but for preset=dagger: add
`--config.init_adapter=runs/...`:"""
Run = Mapping[str, Any]


def page(runs: Sequence[Run], commands: Mapping[str, str]) -> Page:
  """Table 2; `commands` has that of each row by `published.key`."""
  ours = [run for run in runs if run['experiment'] == 'glue']
  plain = [run for run in ours if run['preset'] != 'compare' and not run['cell']]
  blocks: list[Block] = [ABOUT]
  if rows := own_rows(plain):
    title = '### Ours, of other models'
    blocks += [title, Table(rows, OTHERS), picture(plain), _details(plain)]
  for found in comparison.sections(ours):
    blocks += [f'### Methods side by side: {found.title}', Table(found.rows, found.about)]
    blocks.append(found.picture)
    if found.rates:
      blocks.append(Table(found.rates, 'The rates that were tried', folded=True))
    if found.missing:
      blocks.append(Commands('What was not run (DIR holds the official archives):', found.missing))
  printed = paper.TABLES['2']
  cells = [run for run in ours if run['cell'].startswith('table 2')]
  shown = published.rows(
    '2', list(COLUMNS), lambda row, column: _values(cells, row, column), commands
  )
  blocks += ["### The paper's", Table(shown, f'{printed.caption}. {published.MARKS}')]
  if cells:
    blocks.append(_details(cells))
  if missing := published.missing('2', commands, shown):
    blocks.append(Commands(f'{published.HOW[:-2]}, for TASK mnli, sst2, ...). {WARM}', missing))
  done = dict.fromkeys(f'{measured.short(r["model"])} {r["task"]}' for r in ours)
  return Page('table-2', 'Table 2: GLUE', ', '.join(done), blocks)


def own_rows(runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each model, method and preset, a column for each of the paper's tasks."""
  found: dict[tuple[str, ...], dict[str, list[Run]]] = {}
  for run in runs:
    found.setdefault(_row(run, runs), {}).setdefault(run['task'], []).append(run)
  return [
    {
      'model': model,
      'method': ' '.join(filter(None, (method, settings))),
      'preset': preset,
      'params': params,
      **{title: measured.cell(by_task.get(task, [])) for title, task in COLUMNS.items()},
    }
    for (model, method, settings, preset, params), by_task in found.items()
  ]


def picture(runs: Sequence[Run]) -> charts.Picture:
  """Ours by task, and LoRA on RoBERTa-base as the paper has it."""
  series = []
  for row in {_row(run, runs): None for run in runs}:
    alike = [run for run in runs if _row(run, runs) == row]
    titles = [title for title, task in COLUMNS.items() if any(r['task'] == task for r in alike)]
    cells = [[r for r in alike if r['task'] == COLUMNS[title]] for title in titles]
    values = [measured.scores(cell) for cell in cells]
    series.append(
      charts.Series(
        f'ours: {row[0]}, {row[1]}', titles, *charts.mean_and_spread(values), joined=False
      )
    )
  titles = list(dict.fromkeys(title for one in series for title in one.x))
  for row in paper.TABLES['2'].rows:
    if (row['model'], row['method']) in (('RoB-base', 'LoRA'), ('RoB-base', 'FT*')):
      values, spreads = ([f(row[t]) for t in titles] for f in (paper.value, paper.spread))
      label = f'paper: {row["model"]}, {row["method"]}'
      series.append(charts.Series(label, titles, values, spreads, joined=False))
  return charts.chart('table-2', 'scores by task', [charts.Panel('GLUE, dev', '', 'score', series)])


def _details(runs: Sequence[Run]) -> Table:
  rows = [
    measured.detail(
      {
        'task': group[0]['task'],
        'model': measured.short(group[0]['model']),
        'method': tables.method(group[0]),
      },
      group,
    )
    for group in results.grouped(runs)
  ]
  return Table(rows, 'How each was obtained', folded=True)


def _row(run: Run, others: Sequence[Run]) -> tuple[str, ...]:
  without = f'{run["parameters"]["trainable_without_head"]:,}'
  settings = results.settings(run, others)
  return measured.short(run['model']), tables.method(run), settings, run['preset'], without


def _values(runs: Sequence[Run], row: Mapping[str, str], column: str) -> list[float]:
  """Ours of a cell of the paper's own."""
  dagger = row['method'].endswith('†')
  return measured.scores(
    run
    for run in runs
    if run['task'] == COLUMNS[column]
    and run['cell'].endswith('†') == dagger
    and published.row_of('2', run) == row
  )
