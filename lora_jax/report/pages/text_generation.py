"""The pages of tables 3, 13 and 14: texts that GPT-2 generates, by the scores of each challenge."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lora_jax.paper import entries, printed
from lora_jax.report import charts, paper_rows, runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.result_schema import RunResult


class Column(NamedTuple):
  """A score of the table: its name in a run's JSON, what it is multiplied by, the part of the test
  set that it is of ('' is all of it)."""

  score: str
  times: int
  part: str = ''


class Challenge(NamedTuple):
  """A table: the task, its title, and the columns of scores by the paper's names."""

  task: str
  title: str
  columns: Mapping[str, Column]


E2E = {
  'BLEU': Column('bleu', 100),
  'NIST': Column('nist', 1),
  'MET': Column('meteor', 100),
  'ROUGE-L': Column('rouge_l', 100),
  'CIDEr': Column('cider', 1),
}
DART = {'BLEU': Column('bleu', 100), 'MET': Column('meteor', 1), 'TER': Column('ter', 1)}
WEBNLG = {
  f'{title} {letter}': column._replace(part=part)
  for title, column in DART.items()
  for letter, part in (('U', 'unseen'), ('S', 'seen'), ('A', ''))
}
TABLES = {
  '3': Challenge('e2e', 'E2E NLG Challenge', E2E),
  '13': Challenge('dart', 'DART', DART),
  '14': Challenge('webnlg', 'WebNLG', WEBNLG),
}
ABOUT = """The whole test set is decoded with the best epoch of each run and scored as by the
paper's scorers. Mean ± sample standard deviation over seeds."""
OTHERS = """The base models are others than GPT-2 medium and large, which were not available:
compare a method with full fine-tuning of the same base, not with the paper."""


def page(number: str, found: Sequence[RunResult]) -> Page:
  """The page of one of TABLES."""
  task, title, columns = TABLES[number]
  done = [run for run in found if run['task'] == task and 'generated' in run]
  ours = [run for run in done if run['experiment'] == task]
  others = [run for run in ours if not run['paper_table']]
  of_paper = [run for run in ours if run['paper_table'] == f'table {number}']
  blocks: list[Block] = [ABOUT]
  if others:
    blocks += ['### Ours, of other bases', Table(own_rows(number, others), OTHERS)]
    blocks += [Table(details(others), 'How each was obtained', folded=True)]
  blocks.append(picture(number, ours))

  def values(row: entries.Entry, column: str) -> list[float]:
    same = [run for run in of_paper if paper_rows.row_of(number, run) == row]
    return values_of(same, columns[column])

  shown = paper_rows.rows(number, list(columns), values)
  caption = f'{printed.TABLES[number].caption}. {paper_rows.MARKS}'
  blocks += ["### The paper's", Table(shown, caption)]
  if of_paper:
    blocks.append(Table(details(of_paper), 'How ours was obtained', folded=True))
  blocks += paper_rows.missing(number, shown)
  state = ', '.join(dict.fromkeys(f'{runs.model_name(run)} {run["method"]}' for run in ours))
  return Page(f'table-{number}', f'Table {number}: {title}', state, blocks)


def own_rows(number: str, found: Sequence[RunResult]) -> list[dict[str, str]]:
  """A row for each group of seeds, to one digit more than the paper prints."""
  rows, columns = [], TABLES[number].columns
  first_row = printed.TABLES[number].rows[0]
  groups = runs.by_seed(found)
  for group in groups:
    settings = runs.settings(group[0], [other[0] for other in groups])
    values = {name: values_of(group, column) for name, column in columns.items()}
    shown = {
      name: scores.spread(own, printed.places(first_row[name]) + 1) if own else '-'
      for name, own in values.items()
    }
    rows.append(
      {
        'model': runs.model_name(group[0]),
        'method': ' '.join(filter(None, (runs.method_name(group[0]), settings))),
        'params': f'{group[0]["parameters"]["trainable"]:,}',
        **shown,
        'n': str(len(group)),
      }
    )
  return rows


def details(found: Sequence[RunResult]) -> list[dict[str, str]]:
  """A row for each group of seeds: how it was trained and decoded."""
  rows = []
  for group in runs.by_seed(found):
    first = group[0]
    if texts := first.get('generated'):
      decode = texts['decode']
      label = {
        'model': runs.model_name(first),
        'method': runs.method_name(first),
        'decoding': f'{decode["strategy"]} {decode["beams"]}, penalty {decode["length_penalty"]}',
        'contexts': f'{texts["contexts"]:,}',
        'dev': first['metric'].rpartition('/')[2],
      }
      rows.append(scores.detail(label, group))
  return rows


def values_of(found: Sequence[RunResult], column: Column) -> list[float]:
  """The score of each run that decoded texts and has this score, in the table's units."""
  values = []
  for run in found:
    if texts := run.get('generated'):
      of_part = texts.get('parts', {}).get(column.part, {}) if column.part else texts['scores']
      values += [column.times * of_part[column.score]] if column.score in of_part else []
  return values


def picture(number: str, found: Sequence[RunResult]) -> charts.Picture:
  """BLEU over trained parameters: the paper's by model, ours by base."""
  _, title, columns = TABLES[number]
  first = 'BLEU A' if 'BLEU A' in columns else 'BLEU'
  series = []
  for model in dict.fromkeys(row['model'] for row in printed.TABLES[number].rows):
    for label, wanted in (('LoRA', True), ('others', False)):
      rows = [
        row
        for row in printed.TABLES[number].rows
        if row['model'] == model and (row['method'] == 'LoRA') == wanted
      ]
      x = [printed.millions(row['params']) for row in rows]
      y, spreads = ([f(row[first]) for row in rows] for f in (printed.value, printed.spread))
      series.append(charts.Series(f'paper: {model}, {label}', x, y, spreads, joined=False))
  for group in runs.by_seed(found):
    if values := values_of(group, columns[first]):
      x = [group[0]['parameters']['trainable'] / 1e6]
      label = f'ours: {runs.model_name(group[0])}, {group[0]["method"]}'
      spread = [statistics.stdev(values)] if len(values) > 1 else [0.0]
      series.append(charts.Series(label, x, [statistics.fmean(values)], spread, joined=False))
  panel = charts.Panel(f'{title}, test', 'trained parameters, millions', first, series, 10)
  return charts.chart(f'table-{number}', f'{first} over trained parameters', [panel])
