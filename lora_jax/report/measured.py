"""Runs of one cell of a table: what of them is shown, and how they were obtained."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lora_jax.report import paper, tables

Run = Mapping[str, Any]
LOSSES = ('loss', 'perplexity')


def scores(runs: Iterable[Run]) -> list[float]:
  """Of the best epoch of each, in the paper's units: times 100, but for losses."""
  return [scale(run['metric']) * run['best'][run['metric']] for run in runs]


def scale(metric: str) -> int:
  """What a recorded metric is multiplied by to be shown."""
  return 1 if metric.rpartition('/')[2] in LOSSES else 100


def digits(metric: str) -> int:
  """Places after the point that are shown."""
  return 3 if scale(metric) == 1 else 1


def cell(runs: Sequence[Run]) -> str:
  """`28.5 ± 2.3`, `86.1 (n 1)`: one run has no spread, and says that it is one; or `not run`."""
  if not runs:
    return 'not run'
  text = tables.spread(scores(runs), digits(runs[0]['metric']))
  return text if len(runs) > 1 else f'{text} (n 1)'


def beside(printed: str, values: Sequence[float]) -> str:
  """The paper's value with ours of the very cell and the difference, to the digits of the print.

  The difference is bold where it is larger than the paper's spread and ours together. Without ours
  it is what is printed.
  """
  if not values:
    return printed
  places = paper.places(printed)
  difference = statistics.fmean(values) - paper.value(printed)
  own = statistics.stdev(values) if len(values) > 1 else 0.0
  text = f'{difference:+.{places}f}'
  if round(abs(difference), places) > round(paper.spread(printed) + own, places):
    text = f'**{text}**'
  return f'{printed}, ours {tables.spread(values, places)} ({text})'


def detail(label: Mapping[str, str], runs: Sequence[Run]) -> dict[str, str]:
  """A row about a cell: spread, median, last epoch, seeds, size, minutes, machine, commit."""
  first = runs[0]
  metric = first['metric']
  best, last = scores(runs), [scale(metric) * run['last'][metric] for run in runs]
  places = digits(metric)
  minutes = statistics.fmean(sum(run['seconds'].values()) for run in runs) / 60
  return {
    **label,
    'mean': tables.spread(best, places),
    'median': f'{statistics.median(best):.{places}f}',
    'last epoch': tables.spread(last, places),
    'seeds': seeds(runs),
    'trained (without head)': parameters(first['parameters']),
    'minutes': f'{minutes:.1f}',
    'device': ', '.join(dict.fromkeys(map(machine, runs))),
    'commit': ', '.join(dict.fromkeys(run['commit'][:10] for run in runs)),
  }


def seeds(runs: Iterable[Run]) -> str:
  """`0, 1, 2`."""
  return ', '.join(map(str, sorted({run['seed'] for run in runs})))


def parameters(found: Mapping[str, int]) -> str:
  """`222,338 (73,728)`: without the task head in brackets."""
  return f'{found["trainable"]:,} ({found["trainable_without_head"]:,})'


def machine(run: Mapping[str, Any]) -> str:
  """`1 x cpu (2 x x86_64)`."""
  return f'{run["device"]} ({run["cpu"]})'


def short(model: str) -> str:
  """The last part of a model's name or folder."""
  return model.rstrip('/').rpartition('/')[2]
