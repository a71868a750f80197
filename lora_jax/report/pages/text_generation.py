"""The pages of tables 3, 13 and 14: texts that GPT-2 generates, by the scores of each challenge."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from lora_jax.paper import entries, printed, replications, successors, translation
from lora_jax.report import charts, paper_rows, runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.result_schema import PublishedTexts, RunResult

Systems = Mapping[str, PublishedTexts]


SIZE, EXAMPLES = 'trained parameters, millions', 'training examples'


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
not with the paper. A method's rate is the best of those tried, if more than one was, by the loss of
the dev set."""
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
    about = f'{OTHERS} {scores.BOLD}' + f' {SYSTEMS}' * bool(systems)
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
  """BLEU over training examples, where a method has several amounts, and over trained parameters.

  Each base, of ours and of the paper's, has its own panels. Of WebNLG the unseen and the seen
  categories are drawn apart, as the order of the methods is not the same.
  """
  names = DRAWN.get(number, {'BLEU': f'BLEU, {TABLES[number].title} test'})
  panels = [
    panel._replace(y=label)
    for name, label in names.items()
    for panel in _panels(number, name, found, systems)
  ]
  alt = 'BLEU over trained parameters'
  if any(panel.x == EXAMPLES for panel in panels):
    alt = 'BLEU over training examples and over trained parameters'
  return charts.chart(f'table-{number}', alt, panels)


def _panels(
  number: str, column: str, found: Sequence[RunResult], systems: Systems
) -> list[charts.Panel]:
  """The panels of one column of a table, ours first."""
  score = TABLES[number].columns[column]
  panels = []
  for model, own in by_model(found).items():
    groups = [
      group
      for group in chosen([run for run in own if runs.method(run) != 'none'])
      if values_of(group, score)
    ]
    lines = _by_examples(groups, score)
    panels += [charts.Panel(model, EXAMPLES, column, lines, 2)] if lines else []
    panels += _by_size(model, groups, score, {series.label for series in lines})
  by_base: dict[str, list[charts.Series]] = {}
  for row in printed.TABLES[number].rows:
    method = translation.METHODS[row['method'].rstrip('*†')]
    y = [[f(row[column])] for f in (printed.value, printed.spread)]
    label = charts.method(method).name + PAPERS_MATRICES.get(method, '')
    one = charts.Series(label, [printed.millions(row['params'])], *y, joined=False, method=method)
    by_base.setdefault(f'{row["model"]} (paper)', []).append(one)
  panels += [charts.Panel(base, SIZE, column, series, 10) for base, series in by_base.items()]
  # Published texts are scored over the whole test set.
  of_whole = {} if score.part else systems
  levels = {name: system['scores'][score.score] for name, system in of_whole.items()}
  best = max(levels, key=levels.__getitem__, default=None)
  line = (f'{best} ({systems[best]["about"]})', 100 * levels[best]) if best else None
  return [panel._replace(line=line) for panel in panels]


def _by_examples(groups: Sequence[Sequence[RunResult]], score: Column) -> list[charts.Series]:
  """A line for each method that was trained on several amounts of examples."""
  by_label: dict[str, list[Sequence[RunResult]]] = {}
  for group in sorted(groups, key=_examples):
    if _examples(group):
      by_label.setdefault(_label(group[0]), []).append(group)
  return [
    charts.Series(
      label,
      [_examples(group) for group in own],
      *charts.mean_and_spread([values_of(group, score) for group in own]),
      method=runs.method(own[0][0]),
    )
    for label, own in by_label.items()
    if len(own) > 1
  ]


def _by_size(
  model: str, groups: Sequence[Sequence[RunResult]], score: Column, lines: Collection[str]
) -> list[charts.Panel]:
  """A panel for each amount of examples, unless all that it would show are points of `lines`."""
  by_limit: dict[int, list[charts.Series]] = {}
  for group in groups:
    x = [group[0]['parameters']['trainable'] / 1e6]
    y = charts.mean_and_spread([values_of(group, score)])
    method = runs.method(group[0])
    series = charts.Series(_label(group[0]), x, *y, joined=False, method=method)
    by_limit.setdefault(runs.limit(group[0]), []).append(series)
  title = lambda limit: f'{model}, {runs.limit_text(limit)}' if any(by_limit) else model
  return [
    charts.Panel(title(limit), SIZE, score.score, series, 10)
    for limit, series in by_limit.items()
    if not {one.label for one in series} <= set(lines)
  ]


def _label(run: RunResult) -> str:
  """A method's name in pictures, with its matrices."""
  method = runs.method(run)
  return runs.method_name(run).replace(method, charts.method(method).name, 1)


def _examples(group: Sequence[RunResult]) -> int:
  """The number of examples that the runs of a group were trained on; 0 if their files lack it."""
  return runs.limit(group[0]) or group[0].get('truncation', {}).get('train', {}).get('examples', 0)
