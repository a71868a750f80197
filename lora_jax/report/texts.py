"""The pages of tables 3, 13 and 14: texts that GPT-2 generates, by the scores of each challenge."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lora_jax.report import charts, measured, paper, published, results, tables
from lora_jax.report.page import Block, Commands, Page, Table

# Column of the paper's table -> part of the test set ('' is all), score, what it is multiplied by.
E2E = {
  'BLEU': ('', 'bleu', 100), 'NIST': ('', 'nist', 1), 'MET': ('', 'meteor', 100),
  'ROUGE-L': ('', 'rouge_l', 100), 'CIDEr': ('', 'cider', 1),
}  # fmt: skip
DART = {'BLEU': ('', 'bleu', 100), 'MET': ('', 'meteor', 1), 'TER': ('', 'ter', 1)}
WEBNLG = {
  f'{title} {letter}': (part, name, times)
  for title, name, times in (('BLEU', 'bleu', 100), ('MET', 'meteor', 1), ('TER', 'ter', 1))
  for letter, part in (('U', 'unseen'), ('S', 'seen'), ('A', ''))
}
TABLES = {
  '3': ('e2e', 'E2E NLG Challenge', E2E),
  '13': ('dart', 'DART', DART),
  '14': ('webnlg', 'WebNLG', WEBNLG),
}
ABOUT = """The whole test set decoded with the best epoch of each run, scored as the paper's scorers
do. Mean ± sample standard deviation over seeds."""
OTHERS = """Other bases than GPT-2 medium and large, which were not at hand: what a method makes of
a base is to be compared with what full fine-tuning makes of the same one, not with the paper."""
Run = Mapping[str, Any]


def pages(runs: Sequence[Run], commands: Mapping[str, str]) -> list[Page]:
  """Tables 3, 13 and 14; `commands` has that of each row by `published.key`."""
  return [page(number, runs, commands) for number in TABLES]


def page(number: str, runs: Sequence[Run], commands: Mapping[str, str]) -> Page:
  """One of them."""
  task, title, columns = TABLES[number]
  done = [run for run in runs if run['task'] == task and 'generated' in run]
  ours = [run for run in done if run['experiment'] == task]
  others = [run for run in ours if not run['cell']]
  cells = [run for run in ours if run['cell'] == f'table {number}']
  blocks: list[Block] = [ABOUT]
  if others:
    blocks += ['### Ours, of other bases', Table(own_rows(number, others), OTHERS)]
    blocks += [Table(details(others), 'How each was obtained', folded=True)]
  blocks.append(picture(number, ours))
  printed = paper.TABLES[number]
  values = lambda row, column: [
    score
    for run in cells
    if published.row_of(number, run) == row
    for score in scores([run], columns[column])
  ]
  shown = published.rows(number, list(columns), values, commands)
  blocks += ["### The paper's", Table(shown, f'{printed.caption}. {published.MARKS}')]
  if cells:
    blocks.append(Table(details(cells), 'How ours was obtained', folded=True))
  if missing := published.missing(number, commands, shown):
    blocks.append(Commands(published.HOW, missing))
  state = ', '.join(dict.fromkeys(f'{measured.short(r["model"])} {r["method"]}' for r in ours))
  return Page(f'table-{number}', f'Table {number}: {title}', state, blocks)


def own_rows(number: str, runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each group of seeds, to one digit more than the paper prints."""
  rows, columns = [], TABLES[number][2]
  groups = results.grouped(runs)
  for group in groups:
    settings = results.settings(group[0], [other[0] for other in groups])
    shown = {name: scores(group, column) for name, column in columns.items()}
    rows.append(
      {
        'model': measured.short(group[0]['model']),
        'method': ' '.join(filter(None, (tables.method(group[0]), settings))),
        'params': f'{group[0]["parameters"]["trainable"]:,}',
        **{
          name: tables.spread(values, paper.places(paper.TABLES[number].rows[0][name]) + 1)
          if values
          else '-'
          for name, values in shown.items()
        },
        'n': str(len(group)),
      }
    )
  return rows


def details(runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each group of seeds: how it was trained and decoded."""
  rows = []
  for group in results.grouped(runs):
    texts, decode = group[0]['generated'], group[0]['generated']['decode']
    label = {
      'model': measured.short(group[0]['model']),
      'method': tables.method(group[0]),
      'decoding': f'{decode["strategy"]} {decode["beams"]}, penalty {decode["length_penalty"]}',
      'contexts': f'{texts["contexts"]:,}',
      'dev': group[0]['metric'].rpartition('/')[2],
    }
    rows.append(measured.detail(label, group))
  return rows


def scores(runs: Sequence[Run], column: tuple[str, str, int]) -> list[float]:
  """Of each run, in the table's units; without those that have not this score."""
  part, name, times = column
  found = [
    run['generated'].get('parts', {}).get(part, {}) if part else run['generated']['scores']
    for run in runs
  ]
  return [times * of[name] for of in found if name in of]


def picture(number: str, runs: Sequence[Run]) -> charts.Picture:
  """BLEU over trained parameters: the paper's by model, ours by base."""
  columns = TABLES[number][2]
  first = 'BLEU A' if 'BLEU A' in columns else 'BLEU'
  series = []
  for model in dict.fromkeys(row['model'] for row in paper.TABLES[number].rows):
    for label, wanted in (('LoRA', True), ('others', False)):
      rows = [
        row
        for row in paper.TABLES[number].rows
        if row['model'] == model and (row['method'] == 'LoRA') == wanted
      ]
      x = [paper.millions(row['params']) for row in rows]
      y, spreads = ([f(row[first]) for row in rows] for f in (paper.value, paper.spread))
      series.append(charts.Series(f'paper: {model}, {label}', x, y, spreads, joined=False))
  for group in results.grouped(runs):
    values = scores(group, columns[first])
    if values:
      x = [group[0]['parameters']['trainable'] / 1e6]
      label = f'ours: {measured.short(group[0]["model"])}, {group[0]["method"]}'
      spread = [statistics.stdev(values)] if len(values) > 1 else [0.0]
      series.append(charts.Series(label, x, [statistics.fmean(values)], spread, joined=False))
  panel = charts.Panel(
    f'{TABLES[number][1]}, test', 'trained parameters, millions', first, series, 10
  )
  return charts.chart(f'table-{number}', f'{first} over trained parameters', [panel])
