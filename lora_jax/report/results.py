"""The JSON of runs and benchmarks, and the pages of all runs and of speed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_jax.report import measured, tables
from lora_jax.report.page import Block, Commands, Page, Table

ABOUT = """Each row is the runs that differ in nothing but the seed, selected by their best epoch,
as the paper does; the last one stands beside it. Means and sample standard deviations are over
seeds. Minutes and tokens/s are wall time of a machine that may have had other work; speed is
compared by `experiments.bench` ([speed](speed.md))."""
Run = Mapping[str, Any]
LIMIT = 'data.limit'
SWEEP = """Not run on an accelerator, for whose sake a sweep is one program: runs together against
one after the other:"""
SWEEP_COMMAND = (
  'python -m experiments.bench --parts=sweep --model=roberta-base --rows=16 --length=64 --lanes=16 '
  '--dtype=bfloat16 --out=results/runs/bench-sweep.json'
)
GROUPED = ('task', 'model', 'method', 'preset', 'metric', 'device', 'cpu')


def read(folder: str | Path) -> dict[str, dict[str, Any]]:
  """The JSON files below a folder, by their path in it.

  Raises:
    ValueError: naming a file that is not JSON or has no `experiment`.
  """
  found = {}
  for path in sorted(Path(folder).rglob('*.json')):
    try:
      found[str(path.relative_to(folder))] = value = json.loads(path.read_text())
      value['experiment']
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(f'{path}: expected the JSON of a run or benchmark: {error!r}') from error
  return found


def runs_page(runs: Sequence[Run]) -> Page:
  """Every run, also those of no table of the paper."""
  blocks = [Table(run_rows(runs), ABOUT)] if runs else ['None yet.']
  return Page('runs', 'All runs', f'{len(runs)} runs', blocks)


def speed_pages(found: Mapping[str, Run]) -> list[Page]:
  """The page of every benchmark; none without one."""
  blocks: list[Block] = []
  devices = []
  swept = False
  for path, bench in found.items():
    if bench['experiment'] != 'bench':
      continue
    devices.append(measured.machine(bench))
    blocks += [
      f'## {devices[-1]} ({path})',
      f'Commit {bench["commit"][:10]}, median of {bench["rounds"]} rounds; ratios are to the row '
      'that has 1, in one run.',
    ]
    for title, rows in bench['measured'].items():
      swept |= title.startswith('sweep') and not bench['device'].endswith('cpu')
      shown = [{'': name, **_numbers(row)} for name, row in rows.items()]
      blocks.append(Table(shown, f'**{title}**'))
  if blocks and not swept:
    blocks.append(Commands(SWEEP, [SWEEP_COMMAND]))
  state = ', '.join(dict.fromkeys(devices))
  return [Page('speed', 'Speed, size and serving', state, blocks)] if blocks else []


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
  """Runs in groups that differ in nothing but the seed."""
  groups: dict[str, list[Run]] = {}
  for run in runs:
    config = {key: value for key, value in run['config'].items() if key != 'seed'}
    key = json.dumps([[run[name] for name in GROUPED], config], sort_keys=True)
    groups.setdefault(key, []).append(run)
  return list(groups.values())


def run_rows(runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each group of seeds."""
  rows = []
  groups = grouped(runs)
  for group in groups:
    first = group[0]
    metric = first['metric']
    best = [run['best'][metric] for run in group]
    rows.append(
      {
        'task': first['task'],
        'model': first['model'],
        'method': tables.method(first),
        'settings': settings(first, [other[0] for other in groups]),
        'metric': metric,
        'best': tables.spread(best),
        'median': f'{statistics.median(best):.4f}',
        'last': tables.spread([run['last'][metric] for run in group]),
        'seeds': ', '.join(str(run['seed']) for run in group),
        'trained (without head)': measured.parameters(first['parameters']),
        'minutes': f'{_mean(sum(run["seconds"].values()) for run in group) / 60:.1f}',
        'tokens/s': f'{_mean(run["tokens_per_second"] for run in group):,.0f}',
        'padding': f'{_mean(run["padding"] for run in group):.1%}',
        'device': measured.machine(first),
        'commit': ', '.join(dict.fromkeys(run['commit'][:10] for run in group)),
      }
    )
  return rows


def _numbers(row: Mapping[str, float]) -> dict[str, str]:
  return {
    name: f'{value:,}' if isinstance(value, int) else f'{value:.4g}' for name, value in row.items()
  }


def _mean(values: Iterable[float]) -> float:
  return statistics.fmean(values)


def settings(run: Run, others: Sequence[Run]) -> str:
  """What of the config tells the run from the other rows with the same task, model and method.

  And how many examples it was trained on, if not on all.
  """
  alike = [
    tables.leaves(other['config'])
    for other in others
    if [other[name] for name in GROUPED] == [run[name] for name in GROUPED]
    and tables.method(other) == tables.method(run)
  ]
  ours = tables.leaves(run['config'])
  return ', '.join(
    f'{key}={value}'
    for key, value in ours.items()
    if key != 'seed'
    and (any(other.get(key) != value for other in alike) or (key == LIMIT and value))
  )
