"""The scores of the runs behind one entry of a table, and how they stand beside the paper's."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from lora_jax.paper import printed
from lora_jax.report import runs
from lora_jax.result_schema import Baselines, RunResult

Name = TypeVar('Name', float, int, str)
Levels = Mapping[tuple[str, str], float]

LOSSES = ('loss', 'perplexity')
# A mean loss beyond this is of a run that diverged: no task begins near it. The squared error of
# STS-B is at most 25, and the log of a vocabulary's size is below 12.
DIVERGED_LOSS = 100.0


UNITS = {
  'accuracy': 'accuracy, %',
  'matthews': 'Matthews correlation, times 100',
  'pearson': 'Pearson correlation, times 100',
  'loss': 'dev loss, nats a token',
}


def unit(metric: str) -> str:
  """A recorded metric with its unit, as the axis of a picture has it."""
  name = metric.rpartition('/')[2]
  return UNITS.get(name, name if scale(metric) == 1 else f'{name}, times 100')


def constants(found: Iterable[Baselines]) -> dict[tuple[str, str], float]:
  """What one prediction for all examples scores, by task and metric, in the units of tables."""
  return {
    (task, one['metric']): 100 * one['score']
    for baselines in found
    for task, one in baselines['constants'].items()
  }


def constant(run: RunResult, levels: Levels) -> float | None:
  """What one prediction for all examples scores on a run's task by its metric, if it is known."""
  return levels.get((run['task'], run['metric'].rpartition('/')[2]))


def rates_tried(group: Iterable[RunResult]) -> tuple[dict[float, float], list[int]]:
  """The mean score of each rate over the seeds that all rates have, and these seeds.

  Only seeds that ended count; `diverged` has the others.
  """
  by_rate: dict[float, dict[int, float]] = {}
  for run in of_most_commits_first(group):
    by_rate.setdefault(runs.rate(run), {}).setdefault(run['seed'], best([run])[0])
  shared = set.intersection(*map(set, by_rate.values())) if by_rate else set()
  means = {
    lr: statistics.fmean(seeds[seed] for seed in shared or seeds) for lr, seeds in by_rate.items()
  }
  return means, sorted(shared)


def at_best_rate(group: Sequence[RunResult]) -> list[RunResult]:
  """The runs at the best of the rates that were tried, one of each seed.

  A rate at which a seed diverged is not the best, whatever the others reached, unless one did at
  every rate. Two sweeps may both hold a seed, and it is no second seed: the run that most others go
  with counts.
  """
  means, _ = rates_tried(group)
  lost = diverged(group)
  whole = {lr: mean for lr, mean in means.items() if lr not in lost}
  of_seed: dict[int, RunResult] = {}
  for run in of_most_commits_first(group):
    if runs.rate(run) == best_of(whole or means, run['metric']):
      of_seed.setdefault(run['seed'], run)
  return [of_seed[seed] for seed in sorted(of_seed)]


def diverged(group: Iterable[RunResult]) -> dict[float, int]:
  """How many seeds of runs that differ in the rate and the seed alone diverged, by rate."""
  return {lr: count for run in group for lr, count in run.get('diverged', {}).items()}


def of_most_commits_first(group: Iterable[RunResult]) -> list[RunResult]:
  """Runs, those of the commit that most of them are of first: their spread is of seeds alone."""
  found = list(group)
  counted = collections.Counter(run['commit'] for run in found)
  return sorted(found, key=lambda run: -counted[run['commit']])


def at_best_rates(found: Iterable[RunResult]) -> list[list[RunResult]]:
  """Runs in groups that differ in the rate and the seed alone, each `at_best_rate`."""
  alike: dict[str, list[RunResult]] = {}
  for run in found:
    alike.setdefault(runs.without_rate(run), []).append(run)
  return list(map(at_best_rate, alike.values()))


def best_of(means: Mapping[Name, float], metric: str) -> Name:
  """The name of the best score of a metric: the smallest loss, otherwise the largest."""
  least = metric.rpartition('/')[2] in (*LOSSES, 'ter')
  return (min if least else max)(means, key=means.__getitem__)


def best(group: Iterable[RunResult]) -> list[float]:
  """The score of each run's best epoch in the paper's units: times 100, but for losses."""
  return [scale(run['metric']) * run['best'][run['metric']] for run in group]


def fault(run: RunResult) -> str:
  """Why the score of a run says nothing: 'diverged', 'constant' (predictions), or '' if it does.

  A run has diverged if a loss of its best or its last evaluation is beyond `DIVERGED_LOSS`, and is
  constant if it predicts one class or value for all examples where it scores best.
  """
  entries = [*run['best'].items(), *run['last'].items()]
  if any(name.endswith('/loss') and not value <= DIVERGED_LOSS for name, value in entries):
    return 'diverged'
  split = run['metric'].rpartition('/')[0]
  return 'constant' if run['best'].get(f'{split}/constant') else ''


def faults(group: Sequence[RunResult]) -> str:
  """The faults of runs, to follow their mean: ' (1 of 3 constant)', ' (diverged)' of one run.

  Seeds that diverged left no score, but they are counted among the runs.
  """
  found = collections.Counter(filter(None, map(fault, group)))
  by_rate = diverged(group)
  if lost := by_rate.get(runs.rate(group[0]), 0) if by_rate else 0:
    found['diverged'] += lost
  every = len(group) + lost
  count = lambda name: name if every == 1 else f'{found[name]} of {every} {name}'
  return f' ({", ".join(map(count, sorted(found)))})' if found else ''


def scale(metric: str) -> int:
  """What a recorded metric is multiplied by to be shown."""
  return 1 if metric.rpartition('/')[2] in LOSSES else 100


def digits(metric: str) -> int:
  """The digits after the point that are shown."""
  return 3 if scale(metric) == 1 else 1


def spread(values: Sequence[float], digits: int = 4) -> str:
  """Mean ± sample standard deviation; of one value, the value."""
  mean = f'{statistics.fmean(values):.{digits}f}'
  if len(values) == 1:
    return mean
  deviation = statistics.stdev(values) if math.isfinite(sum(values)) else math.nan
  return f'{mean} ± {deviation:.{digits}f}'


def entry(group: Sequence[RunResult], levels: Levels = MappingProxyType({})) -> str:
  """What a table shows of runs: `28.5 ± 2.3`, `86.1 (n 1)` of one run, or `not run`, and faults.

  `at chance` is marked where the mean less its spread does not exceed what one prediction for all
  examples scores.
  """
  if not group:
    return 'not run'
  values = best(group)
  text = spread(values, digits(group[0]['metric']))
  level = constant(group[0], levels)
  low = statistics.fmean(values) - (statistics.stdev(values) if len(values) > 1 else 0.0)
  text += ' (n 1)' if len(group) == 1 else ''
  return text + faults(group) + (', at chance' if level is not None and low <= level else '')


BOLD = """Bold: the best, and what the spreads of both do not tell from it; a single seed has no
spread, and is compared by its number alone."""


def bold(texts: Sequence[str], groups: Sequence[Sequence[float]], metric: str) -> list[str]:
  """Entries with the best in bold, and those that the spreads of both do not tell from it."""
  means = {place: statistics.fmean(group) for place, group in enumerate(groups) if group}
  if len(means) < 2:
    return list(texts)
  deviation = lambda place: statistics.stdev(groups[place]) if len(groups[place]) > 1 else 0.0
  first = best_of(means, metric)
  ties = {
    place
    for place, mean in means.items()
    if abs(mean - means[first]) <= deviation(place) + deviation(first)
  }
  return [f'**{text}**' if place in ties else text for place, text in enumerate(texts)]


def beside(paper: str, *groups: Sequence[float]) -> str:
  """The paper's value with ours of the same entry and the difference, to the digits of the print.

  Each group is of one setting, and stands by itself: what differs in more than the seed has no mean
  and no spread. The difference is bold where it is larger than the paper's spread and ours
  together. Without ours, the print stands alone.
  """
  texts = [_with_difference(paper, values) for values in groups if values]
  return f'{paper}, ours {" / ".join(texts)}' if texts else paper


def _with_difference(paper: str, values: Sequence[float]) -> str:
  """Ours of one setting, and in brackets its difference to the paper's."""
  places = printed.places(paper)
  difference = statistics.fmean(values) - printed.value(paper)
  own = statistics.stdev(values) if len(values) > 1 else 0.0
  text = f'{difference:+.{places}f}'
  if round(abs(difference), places) > round(printed.spread(paper) + own, places):
    text = f'**{text}**'
  return f'{spread(values, places)} ({text})'


def detail(label: Mapping[str, str], group: Sequence[RunResult]) -> dict[str, str]:
  """A row about an entry: spread, median, last epoch, seeds, size, minutes, machine, commit."""
  first = group[0]
  metric = first['metric']
  values, last = best(group), [scale(metric) * run['last'][metric] for run in group]
  places = digits(metric)
  minutes = statistics.fmean(sum(run['seconds'].values()) for run in group) / 60
  return {
    **label,
    'mean': spread(values, places) + faults(group),
    'median': f'{statistics.median(values):.{places}f}',
    'last epoch': spread(last, places),
    'seeds': runs.seeds(group),
    'trained (without head)': runs.parameters(first['parameters']),
    'minutes': f'{minutes:.1f}',
    'device': runs.machines(group),
    'commit': runs.commits(group),
  }
