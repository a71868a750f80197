"""The page of table 2: methods on GLUE."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

from lora_jax.paper import entries, printed, translation
from lora_jax.report import charts, paper_rows, runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.report.pages import comparison, text_generation
from lora_jax.result_schema import RunResult

COLUMNS = translation.GLUE_TASKS
TASKS = comparison.TASKS
ABOUT = """Scores are of the dev sets, at a run's best epoch, as in the paper; CoLA is Matthews,
STS-B Pearson, the others accuracy, times 100; mean ± sample standard deviation over seeds. Runs of
other models than the paper's do not reproduce its rows: compare the methods on one model with each
other, not one model with another."""
ALONE = """Runs that stand in no comparison, at other settings (longer, or other rates) than those
above. At chance: no more than one prediction for all examples, within the spread. In the picture, a
method stands at the best of its settings on each task, and quantized bases are left out."""
PAPER = {('RoB-base', 'LoRA'): 'lora', ('RoB-base', 'FT*'): 'full'}


def page(found: Sequence[RunResult], levels: scores.Levels) -> Page:
  """The page of table 2.

  Args:
    found: runs of any kind.
    levels: what one prediction for all examples scores.
  """
  ours = [run for run in found if run['experiment'] == 'glue']
  plain = [run for run in ours if run['preset'] != 'compare' and not run['paper_table']]
  compared, place = comparison.compared(ours), lambda run: (runs.model_name(run), run['preset'])
  alone = [run for run in ours if run['preset'] == 'compare' and place(run) not in compared]
  blocks: list[Block] = [ABOUT]
  for section in comparison.sections(ours, levels):
    blocks += [f'### Methods side by side: {section.title}', Table(section.rows, section.about)]
    blocks.append(section.picture)
    if section.rates:
      blocks.append(Table(section.rates, 'The rates that were tried', folded=True))
  if others := [*plain, *alone]:
    drawn = picture([*plain, *itertools.chain(*scores.at_best_rates(alone))])
    blocks += ['### Other runs', Table(own_rows(others, levels), ALONE), drawn]
    blocks.append(Table(_details(others), 'How each was obtained', folded=True))
  of_paper = [run for run in ours if run['paper_table'].startswith('table 2')]
  values = lambda row, column: _values(of_paper, row, column)
  shown = paper_rows.rows('2', list(COLUMNS), values)
  caption = f'{printed.TABLES["2"].caption}. {paper_rows.MARKS}'
  blocks += ["### The paper's", Table(shown, caption)]
  if of_paper:
    blocks.append(Table(_details(of_paper), paper_rows.OBTAINED, folded=True))
  blocks += text_generation.successors_of('2')
  done = dict.fromkeys(f'{runs.model_name(run)} {run["task"]}' for run in ours)
  return Page('table-2', 'Table 2: GLUE', ', '.join(done), blocks, 'table=2')


def own_rows(found: Sequence[RunResult], levels: scores.Levels) -> list[dict[str, str]]:
  """A row for each model, method and preset, a column for each task, and one of one prediction."""
  by_row = _by_row(found)
  titles = _titles(found)
  shown = [
    {
      'model': model,
      'method': ' '.join(filter(None, (method, settings))),
      'preset': preset,
      'trained (without head)': params,
      **{title: scores.entry(by_task.get(TASKS[title], []), levels) for title in titles},
    }
    for (model, method, settings, preset, params), by_task in by_row.items()
  ]
  first = {run['task']: run for run in found}
  known = {title: scores.constant(first[TASKS[title]], levels) for title in titles}
  if any(level is not None for level in known.values()):
    texts = {title: '-' if level is None else f'{level:.1f}' for title, level in known.items()}
    shown.append(dict.fromkeys(shown[0], '-') | {'method': 'one prediction for all'} | texts)
  return shown


def picture(found: Sequence[RunResult]) -> charts.Picture:
  """Ours by task, a panel for each model, and the paper's on RoBERTa-base.

  It shows methods, each at the best of its settings: runs on a quantized base are left out.
  """
  found = [run for run in found if _is_whole(run)]
  titles = _titles(found)
  best: dict[tuple[str, str, str], dict[str, list[float]]] = {}
  for (model, name, *_), by_task in _by_row(found).items():
    for task, group in by_task.items():
      row = best.setdefault((model, runs.method(group[0]), name), {})
      row[task] = max(row.get(task, [-math.inf]), scores.best(group), key=statistics.fmean)
  panels: dict[str, list[charts.Series]] = {}
  for (model, method, name), row in best.items():
    own = [title for title in titles if TASKS[title] in row]
    y = charts.mean_and_spread([row[TASKS[title]] for title in own])
    label = name.replace(method, charts.method(method).name, 1)
    panels.setdefault(model, []).append(charts.Series(label, own, *y, joined=False, method=method))
  of_paper, printed_titles = [], [title for title in titles if title in COLUMNS]
  for row in printed.TABLES['2'].rows:
    method = PAPER.get((row['model'], row['method']))
    if method and printed_titles:
      y = [[f(row[title]) for title in printed_titles] for f in (printed.value, printed.spread)]
      name = charts.method(method).name + text_generation.PAPERS_MATRICES.get(method, '')
      of_paper.append(charts.Series(name, printed_titles, *y, joined=False, method=method))
  made = [
    charts.Panel(title, '', 'accuracy or correlation, times 100', series)
    for title, series in [*panels.items(), ('RoBERTa-base (paper)', of_paper)]
  ]
  return charts.chart('table-2', 'scores by task', made)


def _is_whole(run: RunResult) -> bool:
  """Whether the base's kernels are numbers, not codes."""
  return runs.section(run['config'], 'model').get('quantize', 'none') == 'none'


def _titles(found: Sequence[RunResult]) -> list[str]:
  """The names of the tasks of runs, in the paper's order."""
  tasks = {run['task'] for run in found}
  return [title for title, task in TASKS.items() if task in tasks]


def _by_row(found: Sequence[RunResult]) -> Mapping[tuple[str, ...], dict[str, list[RunResult]]]:
  rows: dict[tuple[str, ...], dict[str, list[RunResult]]] = {}
  for run in found:
    count = f'{run["parameters"]["trainable_without_head"]:,}'
    named = runs.model_name(run), runs.method_name(run), runs.settings(run, found)
    rows.setdefault((*named, run['preset'], count), {}).setdefault(run['task'], []).append(run)
  return rows


def _details(found: Sequence[RunResult]) -> list[dict[str, str]]:
  return [
    scores.detail(
      {
        'task': group[0]['task'],
        'model': runs.model_name(group[0]),
        'method': runs.method_name(group[0]),
        **paper_rows.settings(group, found),
      },
      group,
    )
    for group in runs.by_seed(found)
  ]


def _values(found: Sequence[RunResult], row: entries.Entry, column: str) -> list[list[float]]:
  """Our scores of an entry of the paper's table, of each setting those of its seeds."""
  of_task = [run for run in found if run['task'] == COLUMNS[column]]
  same = [run for run in of_task if paper_rows.row_of('2', run) == row]
  return [scores.best(group) for group in runs.by_seed(same)]
