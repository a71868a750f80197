"""The pages of tables 5, 6, 16 and 18: which matrices, which rank, how many examples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from lora_jax.paper import entries, printed, settings, translation
from lora_jax.report import charts, grids, runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.report.grids import Grid, Label
from lora_jax.report.pages import text_generation
from lora_jax.result_schema import RunResult

Name = TypeVar('Name', bound=Hashable)
Group = Sequence[RunResult]
Groups = Mapping[str, Group] | Mapping[int, Group]  # By the place on the x axis.
BLEU = 'BLEU, E2E test'
WEIGHTS_OF_TABLE_18 = 'Wq,Wv'
COMPARED = {4, 8, 64}  # Of ranks, those of the runs that figures 3 to 8 and table 7 compare.
SMALLER = """Another model and task than the paper's: compare the shape (which entries are above
which, and by how many spreads), not the values. A run counts by its best epoch on the dev set;
mean ± sample standard deviation over seeds, times 100 but for losses."""


def table_5(found: Sequence[RunResult], levels: scores.Levels) -> Page:
  """Which matrices under one budget; runs of a rank sweep with the same settings count as well."""
  table, ranks = printed.TABLES['5'], entries.TABLE_5
  select = lambda grid: {w: grid.select(weights=w, rank=rank) for w, rank in ranks.items()}
  made = _grids(found, lambda grid: select(grid).values())
  blocks: list[Block] = [
    'One budget of parameters, spent on one, two or four attention matrices of every layer.'
  ]
  panels = []
  for grid in made:
    groups = select(grid)
    rows = [
      {'': 'rank r', **{weights: str(rank) for weights, rank in ranks.items()}},
      {'': scores.unit(grid.metric), **_entries(groups, levels)},
    ]
    if bleu := _bleu(groups):
      rows.append({'': BLEU, **bleu})
    labeled: dict[Label, Group] = {
      (('weights', w), ('r', str(ranks[w]))): group for w, group in groups.items()
    }
    blocks += _ours(grid, rows, labeled, levels)
    panels.append(_panel(grid, {'': groups}, 'adapted matrices', levels, joined=False))
    panels += _bleu_panel(grid, {'': groups}, 'adapted matrices', joined=False)
  for row, spread in zip(table.rows[1:], (0.5, 0.1), strict=True):  # The spreads of the caption.
    y = [printed.value(row[weights]) for weights in ranks]
    series = charts.Series('', list(ranks), y, [spread] * len(ranks), joined=False, method='lora')
    title = f'GPT-3 (paper), {row["task"]}'
    panels.append(charts.Panel(title, 'adapted matrices', 'accuracy, %', [series]))
  blocks += _of_paper('5', panels)
  return Page('table-5', 'Table 5: which matrices', _state(made), blocks, 'table=5')


def table_6(found: Sequence[RunResult], levels: scores.Levels) -> Page:
  """The rank, by matrices."""
  table, ranks = printed.TABLES['6'], entries.RANKS_OF_TABLE_6
  places = [(w, rank) for w in entries.WEIGHTS_OF_TABLE_6 for rank in ranks]
  select = lambda grid: {(w, rank): grid.select(weights=w, rank=rank) for w, rank in places}
  made = _grids(found, lambda grid: select(grid).values())
  blocks: list[Block] = [
    'The same rank in the query alone, in query and value, in all four matrices.'
  ]
  panels = []
  for grid in made:
    groups = select(grid)
    texts = _entries(groups, levels)
    by_weights = {w: {r: groups[w, r] for r in ranks} for w in entries.WEIGHTS_OF_TABLE_6}
    rows = [{'weights': w, **{f'r={rank}': texts[w, rank] for rank in ranks}} for w in by_weights]
    if bleu := _bleu(groups):
      rows += [
        {'weights': f'{w}: {BLEU}', **{f'r={rank}': bleu[w, rank] for rank in ranks}}
        for w in by_weights
      ]
    labeled: dict[Label, Group] = {
      (('weights', w), ('r', str(r))): group for (w, r), group in groups.items()
    }
    blocks += _ours(grid, rows, labeled, levels)
    panels.append(_panel(grid, by_weights, 'rank', levels, log=2))
    panels += _bleu_panel(grid, by_weights, 'rank', log=2)
  for task in dict.fromkeys(row['task'] for row in table.rows):
    series = [
      charts.Series(row['weights'], ranks, [printed.value(row[f'r={rank}']) for rank in ranks])
      for row in table.rows
      if row['task'] == task
    ]
    panels.append(charts.Panel(f'GPT-3 (paper), {task}', 'rank', 'accuracy, %', series, 2))
  blocks += _of_paper('6', panels)
  return Page('table-6', 'Table 6: the rank', _state(made), blocks, 'table=6')


def table_16(found: Sequence[RunResult], levels: scores.Levels) -> Page:
  """Few training examples."""
  sweeps = [run for run in found if run['experiment'] == 'low_data']
  made = grids.grids(sweeps, ('data.limit', 'train.epochs', 'method', 'optim.lr'))
  blocks: list[Block] = [
    'A number of training examples, drawn anew for each seed; all of the dev set.'
  ]
  panels = []
  for grid in made:
    rows, lines = [], {}
    labeled: dict[Label, Group] = {}
    for method in sorted(dict.fromkeys(map(runs.method, grid.runs)), key=charts.order):
      groups = {
        title: grid.select(method=method, limit=limit) for title, limit in _limits(grid).items()
      }
      name = charts.method(method).name
      texts = {title: scores.entry(group, levels) for title, group in groups.items()}
      rows.append({'method': name, **texts})
      lines[name] = groups
      labeled |= {(('method', name), ('examples', n)): group for n, group in groups.items()}
    blocks += _ours(grid, _bold_columns(rows, lines, grid.metric), labeled, levels)
    panels.append(_panel(grid, lines, 'training examples', levels))
  table = printed.TABLES['16']
  names = [name for name in table.rows[0] if name != 'method']
  series = [
    _of_method(row['method'], names, [printed.value(row[name]) for name in names])
    for row in table.rows
  ]
  panels.append(charts.Panel('GPT-3 (paper), MNLI', 'training examples', 'accuracy, %', series))
  blocks += _of_paper('16', panels)
  return Page('table-16', 'Table 16: few training examples', _state(made), blocks, 'table=16')


def table_18(found: Sequence[RunResult]) -> Page:
  """The rank of GPT-2 on E2E: loss, and scores where the test set was decoded."""
  table, ranks = printed.TABLES['18'], entries.RANKS_OF_TABLE_18
  blocks: list[Block] = ['Query and value adapted at ranks up to 1024, on E2E.']
  panels, made = [], rank_grids(found)
  for grid in made:
    blocks += of_ranks(grid)
    groups = {rank: grid.select(rank=rank) for rank in ranks}
    panels.append(_panel(grid, {'': groups}, 'rank', {}, log=2))
    panels += _bleu_panel(grid, {'': groups}, 'rank', log=2)
  for name, label in (('val_loss', 'validation loss, nats a token'), ('BLEU', BLEU)):
    y = [printed.value(row[name]) for row in table.rows]
    series = charts.Series('', ranks, y, method='lora')
    panels.append(charts.Panel('GPT-2 medium (paper)', 'rank', label, [series], 2))
  blocks += _of_paper('18', panels)
  title = 'Table 18: the rank of a language model on E2E'
  return Page('table-18', title, _state(made), blocks, 'table=18')


def rank_grids(found: Sequence[RunResult]) -> list[Grid]:
  """The sweeps over ranks of query and value on E2E.

  Those of the two ranks of a figure or table 7 by themselves are left out.
  """
  is_own = lambda run: run['experiment'] == 'rank' and run['task'] == 'e2e'
  sweeps = [run for run in found if is_own(run) and grids.weights(run) == WEIGHTS_OF_TABLE_18]
  made = grids.grids(sweeps, grids.RANK_AND_TARGETS)
  rank = grids.FIELDS['rank']
  return [grid for grid in made if not set(map(rank, grid.runs)) <= COMPARED]


def of_ranks(grid: Grid) -> list[Block]:
  """The rows of table 18 of a sweep over ranks."""
  ranks = entries.RANKS_OF_TABLE_18
  groups = {rank: group for rank in ranks if (group := grid.select(rank=rank))}
  texts = _entries(groups, {})
  rows = [
    {'r': str(rank), 'dev loss': texts[rank], **_decoded(group)} for rank, group in groups.items()
  ]
  labeled: dict[Label, Group] = {(('r', str(rank)),): group for rank, group in groups.items()}
  return _ours(grid, rows, labeled, {})


def _grids(found: Sequence[RunResult], select: Callable[[Grid], Iterable[Group]]) -> list[Grid]:
  """Sweeps over matrices and ranks with at least two of the entries of a table."""
  sweeps = [run for run in found if run['experiment'] in ('matrices', 'rank')]
  made = grids.grids(sweeps, grids.RANK_AND_TARGETS)
  return [grid for grid in made if sum(map(bool, select(grid))) > 1]


def _entries(groups: Mapping[Name, Group], levels: scores.Levels) -> dict[Name, str]:
  """The entries of groups that stand against each other, the best in bold."""
  metric = next((group[0]['metric'] for group in groups.values() if group), '')
  texts = [scores.entry(group, levels) for group in groups.values()]
  values = [scores.best(group) for group in groups.values()]
  return dict(zip(groups, scores.bold(texts, values, metric)))


def _bold_columns(
  rows: Sequence[Mapping[str, str]], lines: Mapping[str, Mapping[str, Group]], metric: str
) -> list[dict[str, str]]:
  """Rows by method with the best of each column in bold."""
  made = [dict(row) for row in rows]
  for name in [name for name in rows[0] if name != 'method']:
    values = [scores.best(lines[row['method']][name]) for row in made]
    texts = scores.bold([row[name] for row in made], values, metric)
    for row, text in zip(made, texts, strict=True):
      row[name] = text
  return made


def _of_method(name: str, x: Sequence[str], y: Sequence[float]) -> charts.Series:
  """The series of a method by the paper's name."""
  method = translation.METHODS[name]
  return charts.Series(charts.method(method).name, x, y, method=method)


def _limits(grid: Grid) -> dict[str, int]:
  """The numbers of training examples of the paper's table, and others that a grid has."""
  limits = {title: column.examples for title, column in settings.TABLE_17.items()}
  own = sorted({runs.limit(run) for run in grid.runs} - set(limits.values()))
  return limits | {f'{limit:,}': limit for limit in own}


def _values(group: Group) -> dict[str, list[float]]:
  """The scores of the runs that decoded texts, by column; none where no run did."""
  return {
    name: text_generation.values_of(group, column) for name, column in text_generation.E2E.items()
  }


def _decoded(group: Group) -> dict[str, str]:
  return {name: scores.spread(x, 2) if x else '-' for name, x in _values(group).items()}


def _bleu(groups: Mapping[Name, Group]) -> dict[Name, str]:
  """BLEU of each entry, the best in bold; none if no run decoded texts."""
  values = [_values(group)['BLEU'] for group in groups.values()]
  texts = [scores.spread(own, 1) if own else '-' for own in values]
  return dict(zip(groups, scores.bold(texts, values, 'bleu'))) if any(values) else {}


def _bleu_panel(
  grid: Grid, lines: Mapping[str, Groups], x: str, log: int = 0, joined: bool = True
) -> list[charts.Panel]:
  """BLEU in the place of the dev metric; none if no run decoded texts."""
  series = _series(lines, lambda group: _values(group)['BLEU'], joined)
  title = grid.title.replace(f'({grid.metric.rpartition("/")[2]})', '(BLEU)', 1)
  return [charts.Panel(f'ours: {title}', x, BLEU, series, log)] if series else []


def _ours(
  grid: Grid,
  rows: Sequence[Mapping[str, str]],
  labeled: Mapping[Label, Group],
  levels: scores.Levels,
) -> list[Block]:
  level = scores.constant(grid.runs[0], levels)
  chance = '' if level is None else f' One prediction for all examples scores {level:.1f}.'
  return [
    f'### Ours: {grid.title}',
    Table(rows, f'{SMALLER} {scores.BOLD}{chance} {grids.seeds(list(labeled.values()))}.'),
    Table(grids.details(labeled), 'How each was obtained', folded=True),
  ]


def _of_paper(number: str, panels: Sequence[charts.Panel]) -> list[Block]:
  table = printed.TABLES[number]
  return [
    charts.chart(f'table-{number}', 'ours and the paper side by side', panels),
    "### The paper's",
    Table(table.rows, f'{table.caption}.'),
  ]


def _panel(
  grid: Grid,
  lines: Mapping[str, Groups],
  x: str,
  levels: scores.Levels,
  log: int = 0,
  joined: bool = True,
) -> charts.Panel:
  series = _series(lines, scores.best, joined)
  level = scores.constant(grid.runs[0], levels)
  line = None if level is None else ('one prediction for all', level)
  unit = scores.unit(grid.metric)
  return charts.Panel(f'ours: {grid.title}', x, unit, series, log, line=line)


def _series(
  lines: Mapping[str, Groups], values: Callable[[Group], list[float]], joined: bool
) -> list[charts.Series]:
  """A series for each line of groups that has values."""
  series = []
  by_name = {method.name: name for name, method in charts.METHODS.items()}
  for label, groups in lines.items():
    done = {place: own for place, group in groups.items() if (own := values(group))}
    if done:
      y = charts.mean_and_spread(list(done.values()))
      method = by_name.get(label, '' if label else 'lora')
      series.append(charts.Series(label, list(done), *y, joined, method))
  return series


def _state(made: Sequence[Grid]) -> str:
  return '; '.join(grid.title for grid in made)
