"""The pages of tables 5, 6, 16 and 18: which matrices, which rank, how many examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from lora_jax.paper import entries, printed, settings
from lora_jax.report import charts, commands, grids, scores
from lora_jax.report.document import Block, Commands, Page, Table
from lora_jax.report.grids import Grid, Label
from lora_jax.report.pages import text_generation
from lora_jax.result_schema import RunResult

Group = Sequence[RunResult]
Groups = Mapping[str, Group] | Mapping[int, Group]  # By the place on the x axis.
GPT3 = """GPT-3's weights are not published: these entries cannot be run. The nearest model that can
is GPT-2 XL at the paper's settings (DIR holds the data; replace TASK by wikisql or mnli_text):"""
SMALLER = """Another model and task than the paper's: compare the shape (which entries are above
which, and by how many spreads), not the values. A run counts by its best epoch on the dev set;
mean ± sample standard deviation over seeds, times 100 but for losses."""


def table_5(found: Sequence[RunResult]) -> Page:
  """Which matrices under one budget; runs of a rank sweep with the same settings count as well."""
  table, ranks = printed.TABLES['5'], entries.TABLE_5
  select = lambda grid: {w: grid.select(weights=w, rank=rank) for w, rank in ranks.items()}
  made = _of_encoders(found, lambda grid: select(grid).values())
  blocks: list[Block] = [
    'One budget of parameters, spent on one, two or four attention matrices of every layer.'
  ]
  panels = []
  for grid in made:
    groups = select(grid)
    rows = [
      {'': 'rank r', **{weights: str(rank) for weights, rank in ranks.items()}},
      {'': grid.metric, **{weights: scores.entry(group) for weights, group in groups.items()}},
    ]
    labeled: dict[Label, Group] = {
      (('weights', w), ('r', str(ranks[w]))): group for w, group in groups.items()
    }
    blocks += _ours(grid, rows, labeled, 'matrices')
    panels.append(_panel(grid, {'': groups}, 'adapted', joined=False))
  for row, spread in zip(table.rows[1:], (0.5, 0.1), strict=True):  # The spreads of the caption.
    y = [printed.value(row[weights]) for weights in ranks]
    series = charts.Series('', list(ranks), y, [spread] * len(ranks), joined=False)
    panels.append(charts.Panel(f'GPT-3 (paper), {row["task"]}', 'adapted', 'accuracy', [series]))
  blocks += _of_paper('5', 'matrices', panels, commands.table_5(), made)
  return Page('table-5', 'Table 5: which matrices', _state(made), blocks)


def table_6(found: Sequence[RunResult]) -> Page:
  """The rank, by matrices."""
  table, ranks = printed.TABLES['6'], entries.RANKS_OF_TABLE_6
  places = [(w, rank) for w in entries.WEIGHTS_OF_TABLE_6 for rank in ranks]
  select = lambda grid: {(w, rank): grid.select(weights=w, rank=rank) for w, rank in places}
  made = _of_encoders(found, lambda grid: select(grid).values())
  blocks: list[Block] = [
    'The same rank in the query alone, in query and value, in all four matrices.'
  ]
  panels = []
  for grid in made:
    groups = select(grid)
    by_weights = {w: {r: groups[w, r] for r in ranks} for w in entries.WEIGHTS_OF_TABLE_6}
    rows = [
      {'weights': w, **{f'r={rank}': scores.entry(group) for rank, group in by_rank.items()}}
      for w, by_rank in by_weights.items()
    ]
    labeled: dict[Label, Group] = {
      (('weights', w), ('r', str(r))): group for (w, r), group in groups.items()
    }
    blocks += _ours(grid, rows, labeled, 'rank')
    panels.append(_panel(grid, by_weights, 'rank', log=2))
  for task in dict.fromkeys(row['task'] for row in table.rows):
    series = [
      charts.Series(row['weights'], ranks, [printed.value(row[f'r={rank}']) for rank in ranks])
      for row in table.rows
      if row['task'] == task
    ]
    panels.append(charts.Panel(f'GPT-3 (paper), {task}', 'rank', 'accuracy', series, 2))
  blocks += _of_paper('6', 'rank', panels, commands.table_6(), made)
  return Page('table-6', 'Table 6: the rank', _state(made), blocks)


def table_16(found: Sequence[RunResult]) -> Page:
  """Few training examples."""
  sweeps = [run for run in found if run['experiment'] == 'low_data']
  made = grids.grids(sweeps, ('data.limit', 'train.epochs'))
  blocks: list[Block] = [
    'A number of training examples, drawn anew for each seed; all of the dev set.'
  ]
  panels = []
  for grid in made:
    groups = {title: grid.select(limit=limit) for title, limit in _limits(grid).items()}
    method = 'LoRA' if grid.runs[0]['method'] == 'lora' else grid.runs[0]['method']
    rows = [{'method': method, **{n: scores.entry(group) for n, group in groups.items()}}]
    labeled: dict[Label, Group] = {(('examples', name),): group for name, group in groups.items()}
    blocks += _ours(grid, rows, labeled, 'low_data')
    panels.append(_panel(grid, {method: groups}, 'training examples'))
  table = printed.TABLES['16']
  names = [name for name in table.rows[0] if name != 'method']
  series = [
    charts.Series(row['method'], names, [printed.value(row[name]) for name in names])
    for row in table.rows
  ]
  panels.append(charts.Panel('GPT-3 (paper), MNLI', 'training examples', 'accuracy', series))
  blocks += _of_paper('16', 'low_data', panels, commands.table_16(), made)
  return Page('table-16', 'Table 16: few training examples', _state(made), blocks)


def table_18(found: Sequence[RunResult]) -> Page:
  """The rank of GPT-2 on E2E: loss, and scores where the test set was decoded."""
  sweeps = [run for run in found if run['experiment'] == 'rank' and run['task'] == 'e2e']
  made = grids.grids(sweeps, grids.RANK_AND_TARGETS)
  table, ranks = printed.TABLES['18'], entries.RANKS_OF_TABLE_18
  blocks: list[Block] = [
    'Query and value of GPT-2 at ranks up to 1024, where the loss stops falling in the paper.'
  ]
  panels = []
  for grid in made:
    groups = {rank: grid.select(rank=rank) for rank in ranks}
    rows = [
      {'r': str(rank), 'dev loss': scores.entry(group), **_decoded(group)}
      for rank, group in groups.items()
    ]
    labeled: dict[Label, Group] = {(('r', str(rank)),): group for rank, group in groups.items()}
    blocks += _ours(grid, rows, labeled, 'rank')
    panels += [_panel(grid, {'': groups}, 'rank', log=2), *_bleu_panel(grid, groups)]
  for name in ('val_loss', 'BLEU'):
    series = charts.Series('', ranks, [printed.value(row[name]) for row in table.rows])
    panels.append(charts.Panel('GPT-2 medium (paper)', 'rank', name, [series], 2))
  if not made:
    line = commands.ablation('rank', 'task=e2e,model=runs/pretrain')
    blocks.append(Commands('Ours: not run. On the base of configs/pretrain.py, 3 seeds:', [line]))
  medium = [grid for grid in made if grid.runs[0]['paper_table'] == 'table 18']
  blocks += [
    charts.chart('table-18', 'loss and BLEU over the rank', panels),
    "### The paper's",
    Table(table.rows, f'{table.caption}. Ours: {"above" if medium else "not run"}.'),
  ]
  if not medium:
    blocks.append(Commands('Not run:', [commands.TABLE_18]))
  return Page('table-18', 'Table 18: the rank of GPT-2 on E2E', _state(made), blocks)


def _of_encoders(
  found: Sequence[RunResult], select: Callable[[Grid], Iterable[Group]]
) -> list[Grid]:
  """Grids on encoders with at least two of the entries of a table."""
  sweeps = [
    run for run in found if run['experiment'] in ('matrices', 'rank') and run['task'] != 'e2e'
  ]
  made = grids.grids(sweeps, grids.RANK_AND_TARGETS)
  return [grid for grid in made if sum(map(bool, select(grid))) > 1]


def _limits(grid: Grid) -> dict[str, int]:
  """The numbers of training examples of the paper's table, and others that a grid has."""
  limits = {title: column.examples for title, column in settings.TABLE_17.items()}
  own = sorted({grids.limit(run) for run in grid.runs} - set(limits.values()))
  return limits | {f'{limit:,}': limit for limit in own}


def _values(group: Group) -> dict[str, list[float]]:
  """The scores of the runs that decoded texts, by column; none where no run did."""
  return {
    name: text_generation.values_of(group, column) for name, column in text_generation.E2E.items()
  }


def _decoded(group: Group) -> dict[str, str]:
  return {name: scores.spread(x, 2) if x else '-' for name, x in _values(group).items()}


def _bleu_panel(grid: Grid, groups: Mapping[int, Group]) -> list[charts.Panel]:
  """BLEU over the rank; none if no run decoded texts."""
  bleu = {rank: values for rank, group in groups.items() if (values := _values(group)['BLEU'])}
  if not bleu:
    return []
  series = charts.Series('', list(bleu), *charts.mean_and_spread(list(bleu.values())))
  return [charts.Panel(f'ours: {grid.title}', 'rank', 'BLEU', [series], 2)]


def _ours(
  grid: Grid, rows: Sequence[Mapping[str, str]], labeled: Mapping[Label, Group], config: str
) -> list[Block]:
  blocks: list[Block] = [
    f'### Ours: {grid.title}',
    Table(rows, f'{SMALLER} {grids.seeds(list(labeled.values()))}.'),
    Table(grids.details(labeled), 'How each was obtained', folded=True),
  ]
  if not all(labeled.values()):
    line = commands.complete(grid.runs[0], config)
    blocks.append(Commands('What was not run:', [line]))
  return blocks


def _of_paper(
  number: str,
  config: str,
  panels: Sequence[charts.Panel],
  lines: Sequence[str],
  made: Sequence[Grid],
) -> list[Block]:
  table = printed.TABLES[number]
  blocks: list[Block] = []
  if not made:
    title = 'Ours: not run. On a small encoder, three seeds:'
    blocks.append(Commands(title, [commands.ablation(config)]))
  return [
    *blocks,
    charts.chart(f'table-{number}', 'ours and the paper side by side', panels),
    "### The paper's",
    Table(table.rows, f'{table.caption}. Ours: not run.'),
    Commands(GPT3, lines),
  ]


def _panel(
  grid: Grid, lines: Mapping[str, Groups], x: str, log: int = 0, joined: bool = True
) -> charts.Panel:
  series = []
  for label, groups in lines.items():
    done = {place: scores.best(group) for place, group in groups.items() if group}
    if done:
      y = charts.mean_and_spread(list(done.values()))
      series.append(charts.Series(label, list(done), *y, joined))
  return charts.Panel(f'ours: {grid.title}', x, grid.metric, series, log)


def _state(made: Sequence[Grid]) -> str:
  return '; '.join(grid.title for grid in made)
