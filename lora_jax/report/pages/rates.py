"""The page of learning rates: ranks, scales, matrices and the methods after LoRA, each by rates."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from lora_jax import fields
from lora_jax.paper import successors
from lora_jax.report import charts, grids, runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.report.grids import Grid
from lora_jax.result_schema import Diverged, RunResult, Trained

ABOUT = """Which method is best depends on the learning rates that were tried. Here each method, and
LoRA at each rank, is trained at every rate of a grid (`configs/rates.py`). *Best rate* is that of
the best mean score over seeds; † marks one at the edge of its grid, beyond which a better one may
lie. *At LoRA's rate* is the score at the rate that is best for LoRA of rank {rank}: one reaches it
by searching the rate once and then changing the method or the rank."""
OTHERS = """"LoRA Without Regret" (Thinking Machines, 2025) fits a best rate of LoRA that is 9.8
times that of full fine-tuning and hardly depends on the rank while the scale is alpha / r.
"Learning Rate Matters: Vanilla LoRA May Suffice" (arXiv 2602.04998) finds all variants within 1 to
2 % of LoRA once the rate of each is searched."""
VARIED = ('method', 'optim.lr', 'optim.lora_plus')
# By the options that tell a method from plain LoRA, in the order of the tables.
VARIANTS: Mapping[str, Callable[[Mapping[str, object], Mapping[str, object]], bool]] = {
  'LoRA+': lambda method, optim: optim.get('lora_plus', 1.0) != 1.0,
  'DoRA': lambda method, optim: bool(method.get('dora')),
  'PiSSA': lambda method, optim: str(method.get('init')).startswith('pissa'),
  'OLoRA': lambda method, optim: method.get('init') == 'olora',
  'LoRA-FA': lambda method, optim: method.get('train_a') is False,
}
# Options that a row tells by itself, and the values of `init` that the names of methods tell.
TOLD = ('name', 'rank', 'alpha', 'rslora', 'targets', 'dora', 'train_a')
STARTS = ('uniform', 'pissa', 'olora')
LORA, VERA = 'LoRA', charts.METHODS['vera'].name
FULL = charts.METHODS['full'].name
RANK = 16  # Of which LoRA's rate is taken, or the nearest that was run.
Rates = Mapping[float, Sequence[RunResult]]


class Line(NamedTuple):
  """What one line of a heat map differs from another in, beside the rank; `scale` is the update's.

  `matrices` and `scale` are '' for full fine-tuning; VeRA has no scale. `options` are those of the
  method that nothing else here tells, where they are not the defaults: `dropout=0.1`.
  """

  method: str
  matrices: str = ''
  scale: str = ''
  options: str = ''

  @property
  def name(self) -> str:
    """`DoRA, Wq,Wv, 16 / r`."""
    return ', '.join(filter(None, self))


Place = tuple[Line, int | None]  # Of a run: its line and its rank.


class Row(NamedTuple):
  """A line at one rank, `None` for full fine-tuning: its runs by rate, and those that diverged."""

  line: Line
  rank: int | None
  rates: Rates
  diverged: Mapping[float, int]

  @property
  def means(self) -> dict[float, float]:
    """The mean score of each rate at which no seed diverged, ascending."""
    whole = {lr: scores.best(group) for lr, group in self.rates.items() if lr not in self.diverged}
    return {lr: statistics.fmean(values) for lr, values in sorted(whole.items())}

  @property
  def best(self) -> float | None:
    """The best rate; None if all diverged."""
    metric = next((group[0]['metric'] for group in self.rates.values()), '')
    return scores.best_of(self.means, metric) if self.means else None

  @property
  def tried(self) -> set[float]:
    """The rates that were tried."""
    return {*self.rates, *self.diverged}

  @property
  def shown_rate(self) -> str:
    """The best rate as tables show it; † marks the smallest or largest that was tried."""
    if not self.best:
      return 'none'
    return f'{self.best:g}' + ' †' * (self.best in (min(self.tried), max(self.tried)))


def pages(found: Sequence[RunResult], diverged: Sequence[Diverged]) -> list[Page]:
  """The page, if there are runs of configs/rates.py."""
  own = [run for run in found if run['experiment'] == 'rates']
  blocks: list[Block] = []
  made = grids.grids(own, VARIED)
  for grid in made:
    blocks += _of_grid(grid, [run for run in diverged if grids.is_of(run, grid)])
  blocks += ["### PEFT's", Table(successors.PEFT.rows, f'{successors.PEFT.caption}.')]
  title = 'Learning rates: ranks and the methods after LoRA'
  return [Page('rates', title, '; '.join(grid.title for grid in made), blocks)] if made else []


def _of_grid(grid: Grid, diverged: Sequence[Diverged]) -> list[Block]:
  rows = rows_of(grid.runs, diverged)
  lora = [row for row in rows if row.line.method == LORA and row.best]
  # Of several scales the paper's.
  key = lambda row: (abs((row.rank or 0) - RANK), not row.line.scale.endswith('/ r'))
  usual = min(lora, key=key, default=None)
  rank = usual.rank if usual else RANK
  about = f'{ABOUT.format(rank=rank)} {scores.BOLD}'
  name = f'rates-{grid.runs[0]["task"]}-{runs.model_name(grid.runs[0])}'
  blocks: list[Block] = [f'### {grid.title}', Table(table(rows, grid.metric, usual), about)]
  blocks.append(f'{" ".join(said(rows, grid.metric, usual))} {OTHERS}')
  maps = _maps(rows, grid.metric)
  if maps:
    blocks.append(
      charts.heat_maps(f'{name}-ranks', 'scores by rank and rate', scores.unit(grid.metric), maps)
    )
  of_methods = [*([usual] if usual else []), *_beside(rows, rank)]
  panel = charts.Panel(
    f'{grid.title}, LoRA of rank {rank}',
    'learning rate',
    scores.unit(grid.metric),
    [_series(row) for row in of_methods if row.means],
    log=10,
  )
  blocks.append(charts.chart(f'{name}-methods', 'scores of the methods by rate', [panel]))
  return blocks


def gather(
  found: Iterable[Trained], places: Callable[[Trained], Sequence[Place]]
) -> dict[Place, Row]:
  """Runs in rows, one for each place that a run is of; those that diverged are counted by rate."""
  rows: dict[Place, tuple[dict[float, list[RunResult]], dict[float, int]]] = {}
  for run in found:
    lr = runs.rate(run)
    for place in places(run):
      done, lost = rows.setdefault(place, ({}, {}))
      if 'error' in run:
        lost[lr] = lost.get(lr, 0) + 1
      else:
        done.setdefault(lr, []).append(cast(RunResult, run))
  return {place: Row(*place, *of_place) for place, of_place in rows.items()}


def rows_of(found: Iterable[RunResult], diverged: Iterable[Diverged]) -> list[Row]:
  """The rows of runs, by line and rank; a run may be of two lines, whose scales are equal there."""
  every = [*found, *diverged]
  members: dict[Line, set[int]] = {}
  for number, run in enumerate(every):
    for line, _ in places(run):
      members.setdefault(line, set()).add(number)
  # At alpha = r two scales are one: only the line that has further runs is shown.
  hidden = {
    line
    for line, other in itertools.permutations(members, 2)
    if members[line] < members[other] or (members[line] == members[other] and line.scale == '1')
  }
  order = [LORA, *VARIANTS, VERA, FULL]
  key = lambda row: (order.index(row.line.method), row.line[1:], row.rank or 0)
  shown = [row for row in gather(every, places).values() if row.line not in hidden]
  return sorted(shown, key=key)


def places(run: Trained) -> list[Place]:
  """The lines that a run is of, with its rank."""
  if run['method'] == 'full':
    return [(Line(FULL), None)]
  method, optim = (runs.section(run['config'], name) for name in ('method', 'optim'))
  rank = int(str(method['rank']))
  if run['method'] == 'vera':
    return [(Line(VERA, grids.weights(run), options=_options(method)), rank)]
  name = next((name for name, holds in VARIANTS.items() if holds(method, optim)), LORA)
  alpha = float(str(method['alpha']))
  scales = ['rslora'] if method.get('rslora') else [f'{alpha:g} / r', *['1'] * (alpha == rank)]
  options = _options(method)
  return [(Line(name, grids.weights(run), scale, options), rank) for scale in scales]


def _options(method: Mapping[str, object]) -> str:
  """The options of a method that differ from the defaults and that its row does not tell."""
  plain = lambda value: list(value) if isinstance(value, tuple | list) else value
  return ', '.join(
    f'{name}={value}'
    for name, value in method.items()
    if name not in TOLD
    and not (name == 'init' and value in STARTS)
    and plain(value) != plain(fields.METHOD[name].default)
  )


def table(rows: Sequence[Row], metric: str, usual: Row | None) -> list[dict[str, str]]:
  """The rows of the page's table.

  Args:
    rows: of a grid.
    metric: of their scores.
    usual: that of LoRA whose best rate the others are shown at.
  """
  fixed = usual.best if usual else None
  apart = any(row.line.options for row in rows)
  bests = [row.rates[row.best] if row.best else [] for row in rows]
  texts = [scores.entry(group) for group in bests]
  shown = scores.bold(texts, [scores.best(group) for group in bests], metric)
  made = []
  for row, group, text in zip(rows, bests, shown, strict=True):
    at_fixed = '-'
    if row.rank is not None and fixed is not None:
      count = row.diverged.get(fixed, 0)
      at_fixed = f'diverged ({count})' if count else scores.entry(row.rates.get(fixed, ()))
    lost = ', '.join(f'{lr:g} ({count})' for lr, count in sorted(row.diverged.items()))
    made.append(
      {
        'method': row.line.method,
        'matrices': row.line.matrices or 'all',
        'scale': row.line.scale or '-',
        'r': '-' if row.rank is None else str(row.rank),
        **({'options': row.line.options or '-'} if apart else {}),
        'best rate': row.shown_rate,
        scores.unit(metric): text if row.best else 'diverged',
        "at LoRA's rate": at_fixed,
        'rates tried': str(len(row.tried)),
        'seeds': runs.seeds(group),
        'diverged at (runs)': lost or '-',
      }
    )
  return made


def said(rows: Sequence[Row], metric: str, usual: Row | None) -> list[str]:
  """What the table shows: LoRA's rate by rank and by full's, methods at their best.

  Args:
    rows, metric: of a grid.
    usual: the row of LoRA that others are compared with; its ranks are those of its line.
  """
  lora = [row for row in rows if usual and row.line == usual.line and row.best]
  full = [row for row in rows if row.line.method == FULL and row.best]
  found = []
  if len(lora) > 1:
    rates = [row.best for row in lora if row.best]
    found.append(
      f'Here the best rates of {lora[0].line.name} are {min(rates):g} to {max(rates):g}, '
      f'{max(rates) / min(rates):.3g} times apart.'
    )
  if lora and full and full[0].best:
    ratios = [row.best / full[0].best for row in lora if row.best]
    text = ' to '.join(dict.fromkeys(f'{x:.3g}' for x in (min(ratios), max(ratios))))
    found.append(f"They are {text} times full fine-tuning's, {full[0].best:g}.")
  if usual and (peers := [row for row in _beside(rows, usual.rank) if row.best]):
    reach = lambda row: row.means[row.best]
    places = scores.digits(metric)
    same = (None, usual.rank)
    apart = {row.line[1:] for row in (usual, *peers) if row.line.scale}
    of = lambda row: row.line.name if len(apart) > 1 else row.line.method
    name = lambda row: of(row) + (f' at r={row.rank}' if row.rank not in same else '')
    of_peers = [f'{name(row)} {reach(row) - reach(usual):+.{places}f}' for row in peers]
    found.append(
      f'At rank {usual.rank}, each at its own best rate, the differences to {of(usual)} '
      f'are: {"; ".join(of_peers)}.'
    )
  return found


def _beside(rows: Sequence[Row], rank: int | None) -> list[Row]:
  """The row of each other method, of several the one whose rank is nearest."""
  others = [row for row in rows if row.line.method != LORA]
  distance = lambda row: abs((row.rank or 0) - (rank or 0))
  return [
    min(group, key=distance) for _, group in itertools.groupby(others, key=lambda row: row.line)
  ]


def _maps(rows: Sequence[Row], metric: str) -> list[charts.Map]:
  """A map for each line with several ranks, its columns the rates, its rows the ranks."""
  made = []
  for line, group in itertools.groupby(rows, key=lambda row: row.line):
    own = list(group)
    if len(own) < 2:
      continue
    rates = sorted(set.union(*(row.tried for row in own)))
    values = [[row.means.get(lr) for lr in rates] for row in own]
    best = [rates.index(row.best) if row.best else None for row in own]
    names = [str(row.rank) for row in own]
    made.append(charts.Map(line.name, [f'{lr:g}' for lr in rates], names, values, best))
  return made


def _series(row: Row) -> charts.Series:
  groups = {lr: scores.best(row.rates[lr]) for lr in row.means}
  method = {LORA: 'lora', VERA: 'vera', FULL: 'full'}.get(row.line.method, '')
  y = charts.mean_and_spread(list(groups.values()))
  return charts.Series(row.line.name, list(groups), *y, method=method)
