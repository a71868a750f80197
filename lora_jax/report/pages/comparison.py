"""Methods side by side on the tasks of GLUE, in the form of table 2 of the paper."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lora_jax.paper import translation
from lora_jax.report import charts, runs, scores
from lora_jax.result_schema import RunResult

HEADER = """Best epoch, times 100, mean ± sample standard deviation over the seeds. All runs of a
column differ in nothing but method, rate and seed. A method's rate on a task is the best of those
tried there, compared on the seeds that all rates have; * marks one at the edge of those tried, or
the only one: a better one may lie beyond it. Rates and seconds are by task. The average is over the
tasks, where a method has them all; of a task's columns the fullest. At chance: no more than one
prediction for all examples, within the spread. In the picture, methods of nearly the same size
stand side by side. Seconds are those of training alone on a machine that may have had other work;
for runs trained together, a run's share."""
# The paper's names of the tasks, and of the one of GLUE that it leaves out.
TASKS = {**translation.GLUE_TASKS, 'WNLI': 'wnli'}
TITLES = {task: title for title, task in TASKS.items()}
SIZES = ('bottleneck', 'drop', 'layers', 'prefix', 'infix', 'rank')
# Fields in which the runs of a column may differ: where a run was trained, what it is of, and what
# is compared.
APART = ('seed', 'task', 'optim.lr', 'init_adapter', *runs.PLACES)


class Section(NamedTuple):
  """The comparison of a model's methods with one preset: see the functions of these names."""

  title: str
  rows: list[dict[str, str]]
  about: str
  picture: charts.Picture
  rates: list[dict[str, str]]


def sections(found: Sequence[RunResult], levels: scores.Levels) -> Iterator[Section]:
  """The comparison of each model and preset that has more than one method."""
  for (model, preset), group in compared(found).items():
    yield Section(
      title=f'{model}, preset {preset}',
      rows=rows(group, levels),
      about=f'{HEADER} {scores.BOLD} {settings(group)} Trained on {runs.machines(group)}.',
      picture=picture(group, levels),
      rates=rates(group),
    )


def compared(found: Sequence[RunResult]) -> dict[tuple[str, str], list[RunResult]]:
  """The runs of each model and preset that has more than one method."""
  groups: dict[tuple[str, str], list[RunResult]] = {}
  for run in found:
    if run['experiment'] == 'glue':
      groups.setdefault((runs.model_name(run), run['preset']), []).append(run)
  return {of: group for of, group in groups.items() if len({run['method'] for run in group}) > 1}


def rows(found: Sequence[RunResult], levels: scores.Levels) -> list[dict[str, str]]:
  """A row for each method, a column for each task, and a row of one prediction for all."""
  columns, methods = _columns(found), _by_method(found)
  entries: dict[str, list[str]] = {}
  for column, title in columns.items():
    groups = [best(own, column) for own in methods]
    texts = [scores.entry(group, levels) for group in groups]
    entries[title] = scores.bold(
      texts, list(map(scores.best, groups)), _first(found, column)['metric']
    )
  shown, averaged = [], _one_of_each_task(found, methods)
  for place, own in enumerate(methods):
    groups = [best(own, column) for column in columns]
    counted = [group for column, group in zip(columns, groups) if column in averaged and group]
    means = [statistics.fmean(scores.best(group)) for group in counted]
    average = f'{statistics.fmean(means):.1f}' if len(means) == len(averaged) else '-'
    seconds = [_training_seconds(group) if group else '-' for group in groups]
    shown.append(
      {
        'method': _label(own[0]),
        'trained (without head)': f'{own[0]["parameters"]["trainable_without_head"]:,}',
        **{title: texts[place] for title, texts in entries.items()},
        **({'average': average} if len(averaged) > 1 else {}),
        'lr': ' / '.join(_rate(own, column) for column in columns),
        'seeds': runs.seeds(run for group in groups for run in group),
        'training seconds': ' / '.join(seconds),
      }
    )
  known = [scores.constant(_first(found, column), levels) for column in columns]
  if any(level is not None for level in known):
    last = dict.fromkeys(shown[0], '-') | {'method': 'one prediction for all'}
    texts = ['-' if level is None else f'{level:.1f}' for level in known]
    shown.append(last | dict(zip(columns.values(), texts)))
  return shown


def settings(found: Sequence[RunResult]) -> str:
  """A sentence on what the runs of each column have in common."""
  first = {column_of(run): run for run in reversed(found)}
  said = [f'{title}: {runs.passes(first[column])}' for column, title in _columns(found).items()]
  return f'{"; ".join(said)}.'


def picture(found: Sequence[RunResult], levels: scores.Levels) -> charts.Picture:
  """Scores over the number of trained parameters, in the form of the paper's figure 2."""
  columns = _columns(found)
  series: dict[str, list[charts.Series]] = {title: [] for title in columns.values()}
  for own in _by_method(found):
    count = own[0]['parameters']['trainable_without_head']
    for column, title in columns.items():
      if group := best(own, column):
        y = charts.mean_and_spread([scores.best(group)])
        method = runs.method(own[0])
        label = _label(own[0]).replace(method, charts.method(method).name, 1)
        one = charts.Series(label, [count], *y, joined=False, method=method)
        series[title].append(one)
  panels = []
  for column, title in columns.items():
    first = _first(found, column)
    level = scores.constant(first, levels)
    panels.append(
      charts.Panel(
        title,
        'trained parameters, without head',
        scores.unit(first['metric']),
        series[title],
        log=10,
        line=None if level is None else ('one prediction for all', level),
      )
    )
  name = f'methods-{runs.model_name(found[0])}-{found[0]["preset"]}'
  return charts.chart(name, 'scores by number of trained parameters', panels)


def rates(found: Sequence[RunResult]) -> list[dict[str, str]]:
  """A row for each method and task of which several rates were tried, with their scores."""
  shown = []
  for own in _by_method(found):
    for column, title in _columns(found).items():
      of_column = [run for run in own if column_of(run) == column]
      by_rate, seeds = scores.rates_tried(of_column)
      lost = scores.diverged(of_column)
      every = sorted({*by_rate, *lost})
      if len(every) > 1:
        lr = runs.rate(best(own, column)[0])
        edges = {every[0]: ', the smallest tried', every[-1]: ', the largest tried'}
        score = lambda lr: f' {by_rate[lr]:.1f}' if lr in by_rate else ''
        note = lambda lr: f' ({lost[lr]} diverged)' if lr in lost else ''
        tried = (f'{lr:g}:{score(lr)}{note(lr)}' for lr in every)
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


def best(own: Sequence[RunResult], column: str) -> list[RunResult]:
  """The runs of a method on a task at the best of the rates that were tried there."""
  return scores.at_best_rate([run for run in own if column_of(run) == column])


def column_of(run: RunResult) -> str:
  """What a run must share with another to stand in one column with it."""
  return json.dumps([run['task'], run['metric'], _fields(run)], sort_keys=True)


def _by_method(found: Sequence[RunResult]) -> list[list[RunResult]]:
  """Runs in groups of equal method sections, in the paper's order."""
  groups: dict[str, list[RunResult]] = {}
  for run in found:
    key = json.dumps([runs.method(run), run['config']['method']], sort_keys=True)
    groups.setdefault(key, []).append(run)
  return sorted(groups.values(), key=lambda group: charts.order(runs.method(group[0])))


def _one_of_each_task(
  found: Sequence[RunResult], methods: Sequence[Sequence[RunResult]]
) -> set[str]:
  """The column of each task that most methods have, so that an average counts no task twice."""
  filled: dict[str, dict[str, int]] = {}
  for column in _columns(found):
    count = sum(any(column_of(run) == column for run in own) for own in methods)
    filled.setdefault(_first(found, column)['task'], {})[column] = count
  return {max(counts, key=counts.__getitem__) for counts in filled.values()}


def _first(found: Sequence[RunResult], column: str) -> RunResult:
  return next(run for run in found if column_of(run) == column)


def _rate(own: Sequence[RunResult], column: str) -> str:
  """The best rate of a method on a task, with a * where a better one may lie beyond it."""
  if not (group := best(own, column)):
    return '-'
  finished = {runs.rate(run) for run in own if column_of(run) == column}
  tried = finished | scores.diverged(group).keys()
  lr = runs.rate(group[0])
  return f'{lr:g}' + '*' * (lr in (min(tried), max(tried)))


def _columns(found: Sequence[RunResult]) -> dict[str, str]:
  """The titles of the columns: task and metric, and what tells two columns of one task apart."""
  first: dict[str, RunResult] = {}
  for run in sorted(found, key=lambda run: run['task']):
    first.setdefault(column_of(run), run)
  titles = {}
  for column, run in first.items():
    same = [_fields(other) for other in first.values() if other['task'] == run['task']]
    differing = [
      runs.epochs(run) if name == 'train.epochs' else f'{name}={value}'
      for name, value in _fields(run).items()
      if any(other.get(name) != value for other in same)
    ]
    metric = run['metric'].partition('/')[2]
    named = metric.title() if metric in ('matthews', 'pearson') else metric  # Of people.
    titles[column] = ', '.join([TITLES.get(run['task'], run['task']), named, *differing])
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
  return (
    f'{runs.method_name(run)} ({", ".join(sizes)})'.replace(') (', ', ')
    if sizes
    else runs.method_name(run)
  )


def _training_seconds(group: Sequence[RunResult]) -> str:
  return f'{statistics.fmean(run["seconds"]["training"] for run in group):.0f}'
