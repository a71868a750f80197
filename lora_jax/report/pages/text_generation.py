"""The pages of tables 3, 13 and 14: texts that GPT-2 generates, by the scores of each challenge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lora_jax.paper import entries, printed, replications, successors, translation
from lora_jax.report import charts, paper_rows, runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.result_schema import PublishedTexts, RunResult

Systems = Mapping[str, PublishedTexts]


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
# Columns of pictures with their labels; of other tables it is BLEU.
DRAWN = {'14': {'BLEU U': 'BLEU, unseen categories', 'BLEU S': 'BLEU, seen categories'}}
PAPERS_MATRICES = {'lora': ' (query, value)'}  # Of all rows of these tables.
ABOUT = """The whole test set is decoded with the best epoch of each run and scored as by the
paper's scorers. Mean ± sample standard deviation over seeds."""
OTHERS = """Another base than the paper's: compare a method with full fine-tuning of the same base,
not with the paper. A method's rate is the best of those tried, by the loss of the dev set. Bold:
the best of a column, and what the spreads of both do not tell from it."""
SYSTEMS = """The last rows are not models of ours: templates, and texts that systems of the
challenge published, scored by the same code (`experiments.baselines`)."""


def page(number: str, found: Sequence[RunResult], systems: Systems) -> Page:
  """The page of one of TABLES.

  Args:
    number: the table's.
    found: runs of any kind.
    systems: published systems of the task, by name.
  """
  task, title, columns = TABLES[number]
  done = [run for run in found if run['task'] == task and 'generated' in run]
  ours = [run for run in done if run['experiment'] == task]
  of_paper = [run for run in ours if run['paper_table'] == f'table {number}']
  blocks: list[Block] = [ABOUT]
  for model, others in by_model([run for run in ours if not run['paper_table']]).items():
    about = f'{OTHERS} {SYSTEMS}' if systems else OTHERS
    blocks += [f'### Ours: {model}', Table(own_rows(number, others, systems), about)]
    blocks += [Table(details(others), 'How each was obtained', folded=True)]
  blocks.append(picture(number, ours, systems))

  def values(row: entries.Entry, column: str) -> list[list[float]]:
    same = [run for run in of_paper if paper_rows.row_of(number, run) == row]
    return list(filter(None, (values_of(group, columns[column]) for group in runs.by_seed(same))))

  shown = paper_rows.rows(number, list(columns), values)
  caption = f'{printed.TABLES[number].caption}. {paper_rows.MARKS}'
  blocks += ["### The paper's", Table(shown, caption)]
  if again := replications.TABLES.get(number):
    blocks.append(Table(again.rows, f'{again.caption}.'))
  blocks += successors_of(number)
  if of_paper:
    blocks.append(Table(details(of_paper), paper_rows.OBTAINED, folded=True))
  state = ', '.join(dict.fromkeys(f'{runs.model_name(run)} {run["method"]}' for run in ours))
  name = f'table-{number}'
  return Page(name, f'Table {number}: {title}', state, blocks, f'table={number}')


def successors_of(number: str) -> list[Block]:
  """What later papers print on the tasks of a table; nothing of most."""
  tables = successors.TABLES.get(number, ())
  shown = [Table(table.rows, f'{table.caption}.') for table in tables]
  return ['### After the paper', *shown] if shown else []


def by_model(found: Sequence[RunResult]) -> dict[str, list[RunResult]]:
  """Runs by the name of their base."""
  models: dict[str, list[RunResult]] = {}
  for run in found:
    models.setdefault(runs.model_name(run), []).append(run)
  return models


def chosen(found: Sequence[RunResult]) -> list[list[RunResult]]:
  """The groups of seeds of one base, each at the best of its rates, in the order of the methods."""
  size = lambda run: run['parameters']['trainable']
  best = scores.at_best_rates(found)
  return sorted(best, key=lambda group: (charts.order(runs.method(group[0])), size(group[0])))


def own_rows(number: str, found: Sequence[RunResult], systems: Systems) -> list[dict[str, str]]:
  """A row for each method on one base, to one digit more than the paper prints, then systems."""
  columns, groups = TABLES[number].columns, chosen(found)
  places = {name: printed.places(printed.TABLES[number].rows[0][name]) + 1 for name in columns}
  entries_of: dict[str, list[str]] = {}
  for name, column in columns.items():
    values = [values_of(group, column) for group in groups]
    texts = [scores.spread(own, places[name]) if own else '-' for own in values]
    entries_of[name] = scores.bold(texts, values, column.score)
  firsts = [group[0] for group in groups]
  rows = [
    {
      'method': ' '.join(filter(None, (runs.method_name(first), runs.settings(first, firsts)))),
      'trained': '0' if runs.method(first) == 'none' else f'{first["parameters"]["trainable"]:,}',
      **{name: texts[place] for name, texts in entries_of.items()},
      'n': str(len(groups[place])),
    }
    for place, first in enumerate(firsts)
  ]
  for name, system in systems.items():
    own = {
      title: f'{column.times * system["scores"][column.score]:.{places[title]}f}'
      for title, column in columns.items()
      if column.score in system['scores'] and not column.part
    }
    method = f'{name} ({system["about"]})'
    rows.append({**dict.fromkeys(rows[0], '-'), 'method': method, **own})
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
        **paper_rows.settings(group, found),
        'lr': f'{runs.rate(first):g}',
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


def picture(number: str, found: Sequence[RunResult], systems: Systems) -> charts.Picture:
  """BLEU over trained parameters: a panel for each base of the paper's, and for each of ours.

  Runs on another number of the examples are in a panel of their own. Of WebNLG the unseen and the
  seen categories are drawn apart, as the order of the methods is not the same.
  """
  names = DRAWN.get(number, {'BLEU': f'BLEU, {TABLES[number].title} test'})
  panels = [
    panel._replace(y=label)
    for name, label in names.items()
    for panel in _panels(number, name, found, systems)
  ]
  return charts.chart(f'table-{number}', 'BLEU over trained parameters', panels)


def _panels(
  number: str, first: str, found: Sequence[RunResult], systems: Systems
) -> list[charts.Panel]:
  """The panels of one column of a table."""
  columns = TABLES[number].columns
  by_base: dict[str, list[charts.Series]] = {}
  for model, own in by_model(found).items():
    for group in chosen([run for run in own if runs.method(run) != 'none']):
      if values := values_of(group, columns[first]):
        x = [group[0]['parameters']['trainable'] / 1e6]
        y = charts.mean_and_spread([values])
        method = runs.method(group[0])
        label = runs.method_name(group[0]).replace(method, charts.method(method).name, 1)
        one = charts.Series(label, x, *y, joined=False, method=method)
        limit = runs.limit(group[0])
        base = f'{model}, {runs.limit_text(limit)}' if any(map(runs.limit, own)) else model
        by_base.setdefault(base, []).append(one)
  for row in printed.TABLES[number].rows:
    method = translation.METHODS[row['method'].rstrip('*†')]
    y = [[f(row[first])] for f in (printed.value, printed.spread)]
    label = charts.method(method).name + PAPERS_MATRICES.get(method, '')
    one = charts.Series(label, [printed.millions(row['params'])], *y, joined=False, method=method)
    by_base.setdefault(f'{row["model"]} (paper)', []).append(one)
  levels = {name: system['scores'][columns[first].score] for name, system in systems.items()}
  best = max(levels, key=levels.__getitem__, default=None)
  line = (f'{best} ({systems[best]["about"]})', 100 * levels[best]) if best else None
  x = 'trained parameters, millions'
  return [charts.Panel(base, x, first, series, 10, line=line) for base, series in by_base.items()]
