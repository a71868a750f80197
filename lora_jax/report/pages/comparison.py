"""Methods side by side on the tasks of GLUE, in the form of table 2 of the paper."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lora_jax.report import charts, commands, runs, scores
from lora_jax.result_schema import RunResult

HEADER = """Best epoch, times 100, mean ± sample standard deviation over the seeds. All runs of a
column differ in nothing but method, rate and seed. A method's rate on a task is the best of those
tried there, compared on the seeds that all rates have; rates and seconds are by task. The average
is over the tasks, where a method has them all. Seconds are those of training, without compiling and
evaluation, on a machine that may have had other work; for runs trained together, a run's share."""
# The order of the rows.
METHODS = (
  'full',
  'bitfit',
  'top_layers',
  'adapter_h',
  'adapter_l',
  'adapter_p',
  'adapter_d',
  'prefix_embed',
  'prefix_layer',
  'lora',
)
SIZES = ('bottleneck', 'drop', 'layers', 'prefix', 'infix', 'rank')
# Fields in which the runs of a column may differ: where a run was trained, what it is of, and what
# is compared.
APART = (
  'seed',
  'data.dir',
  'data.tokenizer',
  'model.name',
  'task',
  'optim.lr',
  'init_adapter',
  'sweep.width',
)


class Section(NamedTuple):
  """The comparison of a model's methods with one preset: see the functions of these names."""

  title: str
  rows: list[dict[str, str]]
  about: str
  picture: charts.Picture
  rates: list[dict[str, str]]
  missing: list[str]


def sections(found: Sequence[RunResult]) -> Iterator[Section]:
  """The comparison of each model and preset that has more than one method."""
  groups: dict[tuple[str, str], list[RunResult]] = {}
  for run in found:
    if run['experiment'] == 'glue':
      groups.setdefault((run['model'], run['preset']), []).append(run)
  for (model, preset), group in groups.items():
    if len({run['method'] for run in group}) > 1:
      machines = ', '.join(dict.fromkeys(map(runs.machine, group)))
      yield Section(
        title=f'{model}, preset {preset}, {machines}',
        rows=rows(group),
        about=f'{HEADER} {settings(group)}',
        picture=picture(group),
        rates=rates(group),
        missing=missing(group) if preset == 'compare' else [],
      )


def rows(found: Sequence[RunResult]) -> list[dict[str, str]]:
  """A row for each method, a column for each task."""
  columns = _columns(found)
  shown = []
  for own in _by_method(found):
    groups = {title: best(own, column) for column, title in columns.items()}
    means = [statistics.fmean(map(_score, group)) for group in groups.values() if group]
    average = f'{statistics.fmean(means):.1f}' if len(means) == len(columns) else '-'
    seconds = [_training_seconds(group) if group else '-' for group in groups.values()]
    lrs = [f'{_lr(group[0]):g}' if group else '-' for group in groups.values()]
    shown.append(
      {
        'method': _label(own[0]),
        'trained (without head)': f'{own[0]["parameters"]["trainable_without_head"]:,}',
        'lr': ' / '.join(lrs),
        **{title: scores.entry(group) for title, group in groups.items()},
        **({'average': average} if len(columns) > 1 else {}),
        'seeds': runs.seeds(run for group in groups.values() for run in group),
        'training seconds': ' / '.join(seconds),
      }
    )
  return shown


def settings(found: Sequence[RunResult]) -> str:
  """A sentence on what the runs of each column have in common."""
  first = {column_of(run): run for run in reversed(found)}
  said = []
  for column, title in _columns(found).items():
    train = runs.section(first[column]['config'], 'train')
    epochs = f'{train["epochs"]} epoch' + 's' * (train['epochs'] != 1)
    said.append(f'{title}: {epochs} with batches of {train["batch_size"]}')
  return f'{"; ".join(said)}.'


def picture(found: Sequence[RunResult]) -> charts.Picture:
  """Scores over the number of trained parameters, in the form of the paper's figure 2."""
  columns = _columns(found)
  series: dict[str, list[charts.Series]] = {title: [] for title in columns.values()}
  for own in _by_method(found):
    count = own[0]['parameters']['trainable_without_head']
    for column, title in columns.items():
      if group := best(own, column):
        y = charts.mean_and_spread([[_score(run) for run in group]])
        series[title].append(charts.Series(_label(own[0]), [count], *y, joined=False))
  panels = [
    charts.Panel(title, 'trained parameters, without head', 'score', of_task, log=10)
    for title, of_task in series.items()
  ]
  name = f'methods-{runs.model_name(found[0])}-{found[0]["preset"]}'
  return charts.chart(name, 'scores by number of trained parameters', panels)


def rates(found: Sequence[RunResult]) -> list[dict[str, str]]:
  """A row for each method and task of which several rates were tried, with their scores."""
  shown = []
  for own in _by_method(found):
    for column, title in _columns(found).items():
      by_rate, seeds = _tried(own, column)
      if len(by_rate) > 1:
        lr = max(by_rate, key=by_rate.__getitem__)
        # At an edge a better one may lie beyond it.
        edges = {min(by_rate): ', the smallest tried', max(by_rate): ', the largest tried'}
        tried = (f'{rate:g}: {score:.1f}' for rate, score in sorted(by_rate.items()))
        shown.append(
          {
            'method': _label(own[0]),
            'task': title,
            'seeds': ', '.join(map(str, seeds)),
            'rates': ', '.join(tried),
            'chosen': f'{lr:g}' + edges.get(lr, ''),
          }
        )
  return shown


def missing(found: Sequence[RunResult]) -> list[str]:
  """The commands of the methods that have fewer seeds on a task than another has, or none.

  There is one command for each task and number of prefix tokens. Its methods take the best of the
  rates that were tried on the task, or on the other tasks.
  """
  lines = []
  for column in _columns(found):
    first = next(run for run in found if column_of(run) == column)
    seeds = [(own[0], len(best(own, column))) for own in _by_method(found)]
    most = max(count for _, count in seeds)
    lacking: dict[str, list[str]] = {}
    for run, count in seeds:
      if count < most:
        prefix = str(runs.section(run['config'], 'method').get('prefix', ''))
        lacking.setdefault(prefix, []).append(run['method'])
    for prefix, names in lacking.items():
      more = {'methods': '+'.join(names), 'rates': 'results/runs', 'prefix': prefix}
      lines.append(commands.complete(first, 'compare', **more))
  return lines


def best(own: Sequence[RunResult], column: str) -> list[RunResult]:
  """The runs of a method on a task at the best of the rates that were tried there."""
  by_rate, _ = _tried(own, column)
  if not by_rate:
    return []
  lr = max(by_rate, key=by_rate.__getitem__)
  return [run for run in own if _lr(run) == lr and column_of(run) == column]


def column_of(run: RunResult) -> str:
  """What a run must share with another to stand in one column with it."""
  return json.dumps([run['task'], run['metric'], _fields(run)], sort_keys=True)


def _tried(own: Sequence[RunResult], column: str) -> tuple[dict[float, float], list[int]]:
  """The mean score of each rate of a method on a task, and the seeds compared."""
  by_rate: dict[float, dict[int, float]] = {}
  for run in own:
    if column_of(run) == column:
      by_rate.setdefault(_lr(run), {})[run['seed']] = _score(run)
  shared = set.intersection(*map(set, by_rate.values())) if by_rate else set()
  means = {
    rate: statistics.fmean(seeds[seed] for seed in shared or seeds)
    for rate, seeds in by_rate.items()
  }
  return means, sorted(shared)


def _by_method(found: Sequence[RunResult]) -> list[list[RunResult]]:
  """Runs in groups of equal method sections, in the paper's order."""
  groups: dict[str, list[RunResult]] = {}
  for run in found:
    groups.setdefault(json.dumps(run['config']['method'], sort_keys=True), []).append(run)
  order = {name: place for place, name in enumerate(METHODS)}
  return sorted(groups.values(), key=lambda group: order.get(group[0]['method'], len(order)))


def _columns(found: Sequence[RunResult]) -> dict[str, str]:
  """The titles of the columns: task and metric, and what tells two columns of one task apart."""
  first: dict[str, RunResult] = {}
  for run in sorted(found, key=lambda run: run['task']):
    first.setdefault(column_of(run), run)
  titles = {}
  for column, run in first.items():
    same = [_fields(other) for other in first.values() if other['task'] == run['task']]
    differing = [
      f'{name}={value}'
      for name, value in _fields(run).items()
      if any(other.get(name) != value for other in same)
    ]
    titles[column] = ', '.join([f'{run["task"]} {run["metric"].partition("/")[2]}', *differing])
  return titles


def _fields(run: RunResult) -> dict[str, object]:
  """What must not differ within a column."""
  return {
    name: value
    for name, value in runs.leaves(run['config']).items()
    if name not in APART and not name.startswith('method.')
  }


def _label(run: RunResult) -> str:
  """`adapter_h (bottleneck 8)`."""
  section = runs.section(run['config'], 'method')
  sizes = [f'{name} {section[name]}' for name in SIZES if section.get(name)]
  return runs.method_name(run) + (f' ({", ".join(sizes)})' if sizes else '')


def _training_seconds(group: Sequence[RunResult]) -> str:
  return f'{statistics.fmean(run["seconds"]["training"] for run in group):.0f}'


def _lr(run: RunResult) -> float:
  return float(str(runs.section(run['config'], 'optim')['lr']))


def _score(run: RunResult) -> float:
  return 100 * run['best'][run['metric']]
