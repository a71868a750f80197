"""The page of all runs, also those of no table of the paper."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from lora_jax.report import runs, scores
from lora_jax.report.document import Page, Table
from lora_jax.result_schema import Diverged, RunResult

ABOUT = """Each row is the runs that differ in nothing but the seed, selected by their best epoch,
as the paper does; the last one stands beside it. Means and sample standard deviations are over
seeds. A run is marked as diverged if a mean loss exceeds 100, and as constant if it predicts one
class or value for all examples. Minutes and tokens/s are wall time of a machine that may have had
other work; `experiments.bench` compares speed."""
DIVERGED = """Runs that ended where something was not finite. They have no score, and are in no mean
above."""


def page(found: Sequence[RunResult], diverged: Sequence[Diverged] = ()) -> Page:
  """The page."""
  blocks = [Table(rows(found), ABOUT)] if found else []
  blocks += [Table(rows_of_diverged(diverged), DIVERGED)] if diverged else []
  lost = [f'{len(diverged)} diverged'] if diverged else []
  return Page('runs', 'All runs', ', '.join([counted(found)] * bool(found) + lost), blocks)


def rows_of_diverged(diverged: Sequence[Diverged]) -> list[dict[str, str]]:
  """A row for each run that diverged, with what was not finite."""
  return [
    {
      'task': run['task'],
      'model': runs.model_name(run),
      'method': runs.method_name(run),
      'settings': runs.settings(run, diverged),
      'lr': f'{runs.rate(run):g}',
      'seed': str(run['seed']),
      'what was not finite': run['error'],
    }
    for run in diverged
  ]


def counted(found: Sequence[RunResult]) -> str:
  """`1 run`, `200 runs`."""
  return f'{len(found)} run' + 's' * (len(found) != 1)


def rows(found: Sequence[RunResult]) -> list[dict[str, str]]:
  """A row for each group of seeds."""
  shown = []
  groups = runs.by_seed(found)
  for group in groups:
    first = group[0]
    metric = first['metric']
    best = [run['best'][metric] for run in group]
    minutes = statistics.fmean(sum(run['seconds'].values()) for run in group) / 60
    shown.append(
      {
        'task': first['task'],
        'model': runs.model_name(first),
        'method': runs.method_name(first),
        'settings': runs.settings(first, [other[0] for other in groups]),
        'metric': metric,
        'best': scores.spread(best) + scores.faults(group),
        'median': f'{statistics.median(best):.4f}',
        'last': scores.spread([run['last'][metric] for run in group]),
        'seeds': ', '.join(str(run['seed']) for run in group),
        'trained (without head)': runs.parameters(first['parameters']),
        'minutes': f'{minutes:.1f}',
        'tokens/s': f'{statistics.fmean(run["tokens_per_second"] for run in group):,.0f}',
        'padding': f'{statistics.fmean(run["padding"] for run in group):.1%}',
        'device': runs.machines(group),
        'commit': runs.commits(group),
      }
    )
  return shown
