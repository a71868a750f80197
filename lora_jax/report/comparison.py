"""Methods side by side on the tasks of GLUE, in the form of table 2 of the paper."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lora_jax.report import charts, grids, measured, tables

HEADER = """Best epoch, times 100, mean ± sample standard deviation over the seeds. All runs of a
column differ in nothing but method, rate and seed. A method's rate on a task is the best of those
tried there, on the seeds that all of them had; rates and seconds are by task. The average is of the
tasks, where a method has them all; seconds are those of training, without compiling and evaluation,
on a machine that may have had other work; of runs that were trained together, each one's share."""
Run = Mapping[str, Any]
METHODS = (
  'full', 'bitfit', 'top_layers', 'adapter_h', 'adapter_l', 'adapter_p', 'adapter_d',
  'prefix_embed', 'prefix_layer', 'lora',
)  # fmt: skip
SIZES = ('bottleneck', 'drop', 'layers', 'prefix', 'infix', 'rank')
# Where a run was made, what it is of, and what is compared.
APART = (
  'seed', 'data.dir', 'data.tokenizer', 'model.name', 'task', 'optim.lr', 'init_adapter',
  'sweep.width',
)  # fmt: skip


class Section(NamedTuple):
  """The comparison of a model's methods with one preset: see the functions of these names."""

  title: str
  rows: list[dict[str, str]]
  about: str
  picture: charts.Picture
  rates: list[dict[str, str]]
  missing: list[str]


def sections(runs: Sequence[Run]) -> Iterator[Section]:
  """That of each model and preset that has more than one method."""
  groups: dict[tuple[str, str], list[Run]] = {}
  for run in runs:
    if run['experiment'] == 'glue':
      groups.setdefault((run['model'], run['preset']), []).append(run)
  for (model, preset), group in groups.items():
    if len({run['method'] for run in group}) > 1:
      machines = ', '.join(dict.fromkeys(map(measured.machine, group)))
      title = f'{model}, preset {preset}, {machines}'
      about = f'{HEADER} {settings(group)}'
      commands = missing(group) if preset == 'compare' else []
      yield Section(title, rows(group), about, picture(group), rates(group), commands)


def rows(runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each method, a column for each task."""
  columns = _columns(runs)
  found = []
  for own in _by_method(runs):
    cells = {title: best(own, column) for column, title in columns.items()}
    means = [statistics.fmean(map(_score, cell)) for cell in cells.values() if cell]
    average = f'{statistics.fmean(means):.1f}' if len(means) == len(columns) else '-'
    seconds = [
      f'{statistics.fmean(run["seconds"]["training"] for run in cell):.0f}' if cell else '-'
      for cell in cells.values()
    ]
    rates = [f'{_rate(cell[0]):g}' if cell else '-' for cell in cells.values()]
    found.append(
      {
        'method': _label(own[0]),
        'trained (without head)': f'{own[0]["parameters"]["trainable_without_head"]:,}',
        'lr': ' / '.join(rates),
        **{title: measured.cell(cell) for title, cell in cells.items()},
        **({'average': average} if len(columns) > 1 else {}),
        'seeds': ', '.join(
          str(seed) for seed in sorted({r['seed'] for c in cells.values() for r in c})
        ),
        'training seconds': ' / '.join(seconds),
      }
    )
  return found


def settings(runs: Sequence[Run]) -> str:
  """A sentence on what the runs of each column have in common."""
  of = {column_of(run): run['config'] for run in runs}
  said = [
    f'{title}: {_count(of[column]["train"]["epochs"], "epoch")} with batches of '
    f'{of[column]["train"]["batch_size"]}'
    for column, title in _columns(runs).items()
  ]
  return f'{"; ".join(said)}.'


def picture(runs: Sequence[Run]) -> charts.Picture:
  """Scores over the number of trained parameters, as figure 2 of the paper has them."""
  columns = _columns(runs)
  series: dict[str, list[charts.Series]] = {title: [] for title in columns.values()}
  for own in _by_method(runs):
    count = own[0]['parameters']['trainable_without_head']
    for column, title in columns.items():
      if cell := best(own, column):
        y = charts.mean_and_spread([[_score(run) for run in cell]])
        series[title].append(charts.Series(_label(own[0]), [count], *y, joined=False))
  panels = [
    charts.Panel(title, 'trained parameters, without head', 'score', found, log=10)
    for title, found in series.items()
  ]
  name = f'methods-{measured.short(runs[0]["model"])}-{runs[0]["preset"]}'
  return charts.chart(name, 'scores by number of trained parameters', panels)


def rates(runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each method and task of which several rates were tried, with their scores."""
  found = []
  for own in _by_method(runs):
    for column, title in _columns(runs).items():
      scores, seeds = _tried(own, column)
      if len(scores) > 1:
        lr = max(scores, key=scores.get)
        # At an edge a better one may lie beyond it.
        edges = {min(scores): ', the smallest tried', max(scores): ', the largest tried'}
        found.append(
          {
            'method': _label(own[0]),
            'task': title,
            'seeds': ', '.join(map(str, seeds)),
            'rates': ', '.join(f'{rate:g}: {score:.1f}' for rate, score in sorted(scores.items())),
            'chosen': f'{lr:g}' + edges.get(lr, ''),
          }
        )
  return found


def missing(runs: Sequence[Run]) -> list[str]:
  """The commands of the methods that have fewer seeds on a task than another has, or none.

  One for each task and number of prefix tokens. Their rates are the best that were tried there, or
  on the other tasks.
  """
  found = []
  for column in _columns(runs):
    first = next(run for run in runs if column_of(run) == column)
    seeds = [(own[0], len(best(own, column))) for own in _by_method(runs)]
    most = max(count for _, count in seeds)
    lacking: dict[str, list[str]] = {}
    for run, count in seeds:
      if count < most:
        prefix = str(run['config']['method'].get('prefix', ''))
        lacking.setdefault(prefix, []).append(run['method'])
    for prefix, names in lacking.items():
      more = {'methods': '+'.join(names), 'rates': 'results/runs', 'prefix': prefix}
      found.append(grids.sweep(first, 'compare', **more))
  return found


def best(own: Sequence[Run], column: str) -> list[Run]:
  """The runs of a method on a task at the best of the rates that were tried there."""
  scores, _ = _tried(own, column)
  if not scores:
    return []
  lr = max(scores, key=scores.get)
  return [run for run in own if _rate(run) == lr and column_of(run) == column]


def _tried(own: Sequence[Run], column: str) -> tuple[dict[float, float], list[int]]:
  """The mean score of each rate of a method on a task, and the seeds compared."""
  by_rate: dict[float, dict[int, float]] = {}
  for run in own:
    if column_of(run) == column:
      by_rate.setdefault(_rate(run), {})[run['seed']] = _score(run)
  shared = set.intersection(*map(set, by_rate.values())) if by_rate else set()
  scores = {
    rate: statistics.fmean(seeds[seed] for seed in shared or seeds)
    for rate, seeds in by_rate.items()
  }
  return scores, sorted(shared)


def _by_method(runs: Sequence[Run]) -> list[list[Run]]:
  """Runs in groups of equal method sections, in the paper's order."""
  groups: dict[str, list[Run]] = {}
  for run in runs:
    groups.setdefault(json.dumps(run['config']['method'], sort_keys=True), []).append(run)
  order = lambda group: METHODS.index(name) if (name := group[0]['method']) in METHODS else 99
  return sorted(groups.values(), key=order)


def _columns(runs: Sequence[Run]) -> dict[str, str]:
  """Titles of the columns: the task and its metric, and what tells two of one task apart."""
  first = {}
  for run in sorted(runs, key=lambda run: run['task']):
    first.setdefault(column_of(run), run)
  titles = {}
  for column, run in first.items():
    same = [_fields(other) for other in first.values() if other['task'] == run['task']]
    ours = _fields(run)
    differing = [
      f'{name}={value}'
      for name, value in ours.items()
      if any(other.get(name) != value for other in same)
    ]
    titles[column] = ', '.join([f'{run["task"]} {run["metric"].partition("/")[2]}', *differing])
  return titles


def column_of(run: Run) -> str:
  """What a run must agree in with another to stand in one column with it."""
  return json.dumps([run['task'], run['metric'], _fields(run)], sort_keys=True)


def _fields(run: Run) -> dict[str, Any]:
  """What must not differ within a column."""
  return {
    name: value
    for name, value in tables.leaves(run['config']).items()
    if name not in APART and not name.startswith('method.')
  }


def _label(run: Run) -> str:
  """`adapter_h (bottleneck 8)`."""
  section = run['config']['method']
  sizes = [f'{name} {section[name]}' for name in SIZES if section.get(name)]
  return tables.method(run) + (f' ({", ".join(sizes)})' if sizes else '')


def _count(number: int, noun: str) -> str:
  return f'{number} {noun}' + 's' * (number != 1)


def _rate(run: Run) -> float:
  return run['config']['optim']['lr']


def _score(run: Run) -> float:
  return 100 * run['best'][run['metric']]
