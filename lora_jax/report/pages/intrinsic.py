"""The page of random subspaces: how few dimensions a task needs, beside the published numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from lora_jax.paper import intrinsic
from lora_jax.report import charts, grids, runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.report.grids import Grid
from lora_jax.report.pages.rates import FULL, LORA, Line, Place, Row, gather
from lora_jax.result_schema import Diverged, RunResult, Trained

PERCENT = f'{100 * intrinsic.SHARE:.0f} %'
ABOUT = f"""The paper's section 1 says where LoRA came from: all parameters of a pretrained model
moved in a random subspace of d dimensions reach most of full fine-tuning's score (Li et al., 2018,
arXiv 1804.08838; Aghajanyan et al., 2020, arXiv 2012.13255), so an update may be of low rank. *d90*
is the least d that reaches {PERCENT} of full fine-tuning's score. `did` is the plain subspace,
`said` has a learned factor for each layer, which counts as a dimension. The task head lies in the
subspace, too."""
ROWS = """Each row is at the best of the rates that were tried; † marks one at the edge of them,
beyond which a better one may lie."""
SUBSPACE = charts.METHODS['intrinsic'].name
VARIED = ('method', 'optim.lr')


def pages(
  found: Sequence[RunResult], diverged: Sequence[Diverged], levels: scores.Levels
) -> list[Page]:
  """The page, if there are runs of configs/intrinsic.py."""
  own = [run for run in found if run['experiment'] == 'intrinsic']
  made = grids.grids(own, VARIED)
  blocks: list[Block] = [ABOUT]
  for grid in made:
    blocks += _of_grid(grid, [run for run in diverged if grids.is_of(run, grid)], levels)
  blocks += ['### Published', Table(intrinsic.TABLE.rows, f'{intrinsic.TABLE.caption}.')]
  title = 'Intrinsic dimension: where LoRA came from'
  return [Page('intrinsic', title, '; '.join(grid.title for grid in made), blocks)] if made else []


def rows_of(found: Iterable[RunResult], diverged: Iterable[Diverged] = ()) -> list[Row]:
  """Rows by method and size: full fine-tuning, LoRA, then subspaces by variant and dimension."""
  order = [FULL, LORA, SUBSPACE]
  key = lambda row: (order.index(row.line.method), row.line, row.rank or 0)
  return sorted(gather([*found, *diverged], lambda run: [_place(run)]).values(), key=key)


def d90(rows: Sequence[Row], target: float) -> dict[str, int | None]:
  """By variant the least dimension whose mean score reaches the target, None if none does."""
  found: dict[str, int | None] = {}
  for row in rows:
    if row.line.method == SUBSPACE:
      reached = row.best is not None and row.means[row.best] >= target
      if found.get(row.line.name) is None:
        found[row.line.name] = row.rank if reached else None
  return found


def _place(run: Trained) -> Place:
  """The line of a run, and its rank or dimension."""
  method = runs.section(run['config'], 'method')
  if run['method'] == 'full':
    return Line(FULL), None
  if run['method'] == 'intrinsic':
    return Line(SUBSPACE, str(method['variant'])), int(str(method['dimension']))
  return Line(LORA, grids.weights(run)), int(str(method['rank']))


def _of_grid(grid: Grid, diverged: Sequence[Diverged], levels: scores.Levels) -> list[Block]:
  rows = rows_of(grid.runs, diverged)
  full = next((row.means[row.best] for row in rows if row.line.method == FULL and row.best), None)
  groups = [row.rates[row.best] if row.best else [] for row in rows]
  texts = [scores.entry(group, levels) if group else 'diverged' for group in groups]
  shown = scores.bold(texts, list(map(scores.best, groups)), grid.metric)
  unit = scores.unit(grid.metric)
  table = [
    {
      'method': row.line.name,
      'r or d': f'{row.rank:,}' if row.rank else '-',
      'trained (without head)': runs.parameters(group[0]['parameters']) if group else '-',
      unit: text,
      'of full': f'{100 * row.means[row.best] / full:.0f} %' if row.best and full else '-',
      'best rate': row.shown_rate,
      'rates tried': str(len(row.tried)),
      'seeds': runs.seeds(group),
    }
    for row, group, text in zip(rows, groups, shown, strict=True)
  ]
  first = grid.runs[0]
  trained = f'{runs.limit_text(runs.limit(first))}, {runs.passes(first)}'
  blocks: list[Block] = [
    f'### {grid.title}',
    Table(table, f'Trained on {trained}. {ROWS} {scores.BOLD}'),
  ]
  if full is None:
    return blocks
  target = intrinsic.SHARE * full
  blocks.append(_said(rows, target, scores.constant(grid.runs[0], levels)))
  subspaces = [row for row in rows if row.line.method == SUBSPACE and row.best]
  if len(subspaces) < 2:  # A point alone shows nothing that the table does not.
    return blocks
  series = [
    _series(name, list(own))
    for name, own in itertools.groupby(subspaces, lambda row: row.line.name)
  ]
  level = f'{PERCENT} of {FULL}', target
  panel = charts.Panel(grid.title, 'dimensions of the subspace', unit, series, 10, line=level)
  name = f'intrinsic-{grid.runs[0]["task"]}-{runs.model_name(grid.runs[0])}'
  return [*blocks, charts.chart(name, 'scores by the dimension of the subspace', [panel])]


def _said(rows: Sequence[Row], target: float, level: float | None) -> str:
  """d90 of each variant beside LoRA's parameters."""
  most = max((row.rank or 0 for row in rows if row.line.method == SUBSPACE), default=0)
  found = [
    f'{name} {f"{d:,}" if d else f"not reached with {most:,}"}'
    for name, d in d90(rows, target).items()
  ]
  reached = '; '.join(found) or 'not run'
  text = f'{PERCENT} of {FULL} is {target:.1f}. d90, of the dimensions tried: {reached}.'
  for row in rows:
    if row.line.method == LORA and row.best:
      count = row.rates[row.best][0]['parameters']['trainable_without_head']
      text += f' LoRA of rank {row.rank} trains {count:,} parameters.'
  if level is not None and level >= target:
    text += f' One prediction for all examples scores {level:.1f}, so d90 says nothing here.'
  return text


def _series(name: str, rows: Sequence[Row]) -> charts.Series:
  groups = {row.rank: scores.best(row.rates[row.best]) for row in rows if row.rank and row.best}
  y = charts.mean_and_spread(list(groups.values()))
  return charts.Series(name, list(groups), *y, method='intrinsic')
