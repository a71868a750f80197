"""The scores of the runs behind one entry of a table, and how they stand beside the paper's."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from lora_jax.paper import printed
from lora_jax.report import runs
from lora_jax.result_schema import RunResult

LOSSES = ('loss', 'perplexity')
# A mean loss beyond this is of a run that diverged: no task begins near it. The squared error of
# STS-B is at most 25, and the log of a vocabulary's size is below 12.
DIVERGED_LOSS = 100.0


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
  """The faults of runs, to follow their mean: ' (1 of 3 constant)', ' (diverged)' of one run."""
  found = collections.Counter(filter(None, map(fault, group)))
  count = lambda name: name if len(group) == 1 else f'{found[name]} of {len(group)} {name}'
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


def entry(group: Sequence[RunResult]) -> str:
  """What a table shows of runs: `28.5 ± 2.3`, `86.1 (n 1)` of one run, or `not run`, and faults."""
  if not group:
    return 'not run'
  text = spread(best(group), digits(group[0]['metric']))
  return (text if len(group) > 1 else f'{text} (n 1)') + faults(group)


def beside(paper: str, values: Sequence[float]) -> str:
  """The paper's value with ours of the same entry and the difference, to the digits of the print.

  The difference is bold where it is larger than the paper's spread and ours together. Without ours,
  the print stands alone.
  """
  if not values:
    return paper
  places = printed.places(paper)
  difference = statistics.fmean(values) - printed.value(paper)
  own = statistics.stdev(values) if len(values) > 1 else 0.0
  text = f'{difference:+.{places}f}'
  if round(abs(difference), places) > round(printed.spread(paper) + own, places):
    text = f'**{text}**'
  return f'{paper}, ours {spread(values, places)} ({text})'


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
    'device': ', '.join(dict.fromkeys(map(runs.machine, group))),
    'commit': runs.commits(group),
  }
