"""Runs of ablations in grids: they differ in what the table varies and the seed alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from lora_jax.report import measured, published, tables

Run = Mapping[str, Any]
# Labels, and where a run was made.
APART = ('seed', 'experiment', 'cell', 'data.dir', 'data.tokenizer', 'model.name', 'sweep.width')
RANK_AND_TARGETS = ('method.rank', 'method.targets')
LETTERS = {'query': 'Wq', 'key': 'Wk', 'value': 'Wv', 'output': 'Wo'}


class Grid(NamedTuple):
  """Runs of one model, task and setting, which fill one grid.

  Attributes:
    title: `cola (matthews), all-MiniLM-L6-v2`, and what tells it from another grid.
    runs: of all its cells.
  """

  title: str
  runs: tuple[Run, ...]

  @property
  def metric(self) -> str:
    """Of the dev set, by which the best epoch is chosen."""
    return self.runs[0]['metric']

  def cell(self, **wanted: Any) -> list[Run]:
    """Its runs with this `rank`, these `weights` or this `limit`, one of each seed."""
    found = {}
    for run in self.runs:
      if all(FIELDS[name](run) == value for name, value in wanted.items()):
        found.setdefault(run['seed'], run)
    return [found[seed] for seed in sorted(found)]


def weights(run: Run) -> str:
  """`Wq,Wv`, as the paper has it; a module that it does not name by its own name."""
  patterns = run['config']['method'].get('targets', ())
  names = [name for pattern in patterns for name in re.findall(r'\w+', pattern.split('/')[-1])]
  order = [*LETTERS, *names]
  return ','.join(LETTERS.get(name, name) for name in sorted(set(names), key=order.index))


FIELDS: dict[str, Callable[[Run], Any]] = {
  'rank': lambda run: run['config']['method']['rank'],
  'weights': weights,
  'limit': lambda run: run['config']['data']['limit'],
  'method': lambda run: run['method'],
}


def grids(runs: Sequence[Run], varied: Collection[str]) -> list[Grid]:
  """The grids of runs, by what else than `varied` (names of config fields) differs in them."""
  groups: dict[str, list[Run]] = {}
  for run in runs:
    key = [run['model'], run['task'], run['metric'], _rest(run, varied)]
    groups.setdefault(json.dumps(key, sort_keys=True), []).append(run)
  found = []
  for group in groups.values():
    first = group[0]
    alike = [other[0] for other in groups.values() if _name(other[0]) == _name(first)]
    rest = _rest(first, varied)
    differing = [
      f'{name}={value}'
      for name, value in rest.items()
      if any(_rest(other, varied).get(name) != value for other in alike)
    ]
    found.append(Grid(', '.join([_name(first), *differing]), tuple(group)))
  return found


def seeds(cells: Sequence[Sequence[Run]]) -> str:
  """`3 seeds`, or `1 to 3 seeds`, of the cells that were run."""
  counts = sorted({len(cell) for cell in cells if cell})
  if counts == [1]:
    return '1 seed'
  return f'{counts[0]} seeds' if len(counts) == 1 else f'{counts[0]} to {counts[-1]} seeds'


def argument(run: Run, **more: str) -> str:
  """The argument of a config file by which a run's sweep was named; a folder is `path/to/NAME`."""
  name = measured.short(run['model'])
  model = name if name in published.MODELS.values() else f'path/to/{name}'
  values = {'task': run['task'], 'model': model, 'preset': run['preset'], **more}
  return ','.join(f'{key}={value}' for key, value in values.items() if value)


def sweep(run: Run, config: str, **more: str) -> str:
  """The command that trains what is missing beside a run: runs that are there are not repeated.

  Args:
    run: of the grid, with the `overrides` by which it differs from what the config file says.
    config: the file's name.
    more: further keys of its argument.
  """
  return (
    f'python -m experiments.sweep --config=configs/{config}.py:{argument(run, **more)} '
    f'--workdir=runs/{config}-{run["task"]} --config.data.dir=DIR{run.get("overrides", "")}'
  )


def details(cells: Mapping[tuple[tuple[str, str], ...], Sequence[Run]]) -> list[dict[str, str]]:
  """A row for each cell that was run, by its labels."""
  return [measured.detail(dict(label), runs) for label, runs in cells.items() if runs]


def _name(run: Run) -> str:
  metric = run['metric'].rpartition('/')[2]
  return f'{run["task"]} ({metric}), {measured.short(run["model"])}'


def _rest(run: Run, varied: Collection[str]) -> dict[str, Any]:
  leaves = tables.leaves(run['config'])
  return {key: value for key, value in leaves.items() if key not in (*APART, *varied)}
