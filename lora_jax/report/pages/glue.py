"""The page of table 2: methods on GLUE."""

from __future__ import annotations

from collections.abc import Sequence

from lora_jax.paper import entries, printed, translation
from lora_jax.report import charts, paper_rows, runs, scores
from lora_jax.report.document import Block, Commands, Page, Table
from lora_jax.report.pages import comparison
from lora_jax.result_schema import RunResult

COLUMNS = translation.GLUE_TASKS
ABOUT = """What each method reaches on the dev sets. A run counts by its best epoch, as in the
paper; CoLA is Matthews, STS-B Pearson, the others accuracy, times 100; mean ± sample standard
deviation over seeds."""
OTHERS = """Runs of other models than the paper's do not reproduce its rows: compare the methods on
one model with each other, not one model with another."""
WARM = """MRPC, RTE and STS-B start from the best MNLI run, except with preset=adapter_setup: add
`--config.init_adapter=runs/...`:"""


def page(found: Sequence[RunResult]) -> Page:
  """The page of table 2."""
  ours = [run for run in found if run['experiment'] == 'glue']
  plain = [run for run in ours if run['preset'] != 'compare' and not run['paper_table']]
  blocks: list[Block] = [ABOUT]
  if rows := own_rows(plain):
    title = '### Ours, of other models'
    blocks += [title, Table(rows, OTHERS), picture(plain), _details(plain)]
  for section in comparison.sections(ours):
    blocks += [f'### Methods side by side: {section.title}', Table(section.rows, section.about)]
    blocks.append(section.picture)
    if section.rates:
      blocks.append(Table(section.rates, 'The rates that were tried', folded=True))
    if section.missing:
      title = 'What was not run (DIR holds the official archives):'
      blocks.append(Commands(title, section.missing))
  of_paper = [run for run in ours if run['paper_table'].startswith('table 2')]
  values = lambda row, column: _values(of_paper, row, column)
  shown = paper_rows.rows('2', list(COLUMNS), values)
  caption = f'{printed.TABLES["2"].caption}. {paper_rows.MARKS}'
  blocks += ["### The paper's", Table(shown, caption)]
  if of_paper:
    blocks.append(_details(of_paper))
  how = f'{paper_rows.HOW[:-2]}, and TASK by mnli, sst2, ...). {WARM}'
  blocks += paper_rows.missing('2', shown, how)
  done = dict.fromkeys(f'{runs.model_name(run)} {run["task"]}' for run in ours)
  return Page('table-2', 'Table 2: GLUE', ', '.join(done), blocks)


def own_rows(found: Sequence[RunResult]) -> list[dict[str, str]]:
  """A row for each model, method and preset, a column for each of the paper's tasks."""
  by_row: dict[tuple[str, ...], dict[str, list[RunResult]]] = {}
  for run in found:
    by_row.setdefault(_row(run, found), {}).setdefault(run['task'], []).append(run)
  return [
    {
      'model': model,
      'method': ' '.join(filter(None, (method, settings))),
      'preset': preset,
      'params': params,
      **{title: scores.entry(by_task.get(task, [])) for title, task in COLUMNS.items()},
    }
    for (model, method, settings, preset, params), by_task in by_row.items()
  ]


def picture(found: Sequence[RunResult]) -> charts.Picture:
  """Ours by task, and LoRA on RoBERTa-base as the paper has it."""
  series = []
  for row in {_row(run, found): None for run in found}:
    alike = [run for run in found if _row(run, found) == row]
    titles = [title for title, task in COLUMNS.items() if any(r['task'] == task for r in alike)]
    groups = [[run for run in alike if run['task'] == COLUMNS[title]] for title in titles]
    y = charts.mean_and_spread([scores.best(group) for group in groups])
    series.append(charts.Series(f'ours: {row[0]}, {row[1]}', titles, *y, joined=False))
  titles = list(dict.fromkeys(str(title) for one in series for title in one.x))
  for row in printed.TABLES['2'].rows:
    if (row['model'], row['method']) in (('RoB-base', 'LoRA'), ('RoB-base', 'FT*')):
      values, spreads = ([f(row[t]) for t in titles] for f in (printed.value, printed.spread))
      label = f'paper: {row["model"]}, {row["method"]}'
      series.append(charts.Series(label, titles, values, spreads, joined=False))
  return charts.chart('table-2', 'scores by task', [charts.Panel('GLUE, dev', '', 'score', series)])


def _details(found: Sequence[RunResult]) -> Table:
  rows = [
    scores.detail(
      {
        'task': group[0]['task'],
        'model': runs.model_name(group[0]),
        'method': runs.method_name(group[0]),
      },
      group,
    )
    for group in runs.by_seed(found)
  ]
  return Table(rows, 'How each was obtained', folded=True)


def _row(run: RunResult, others: Sequence[RunResult]) -> tuple[str, ...]:
  count = f'{run["parameters"]["trainable_without_head"]:,}'
  settings = runs.settings(run, others)
  return runs.model_name(run), runs.method_name(run), settings, run['preset'], count


def _values(found: Sequence[RunResult], row: entries.Entry, column: str) -> list[float]:
  """Our scores of an entry of the paper's table."""
  of_task = [run for run in found if run['task'] == COLUMNS[column]]
  return scores.best(run for run in of_task if paper_rows.row_of('2', run) == row)
