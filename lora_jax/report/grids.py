"""Runs of ablations in grids: they differ only in what the table varies and in the seed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from lora_jax.paper import translation
from lora_jax.report import runs, scores
from lora_jax.result_schema import RunResult, Trained

RANK_AND_TARGETS = ('method.rank', 'method.targets')


class Grid(NamedTuple):
  """Runs of one model, task and setting, which fill one grid.

  Attributes:
    title: `cola (matthews), all-MiniLM-L6-v2`, and what tells it from another grid.
    runs: of all its entries.
  """

  title: str
  runs: tuple[RunResult, ...]

  @property
  def metric(self) -> str:
    """The metric of the dev set by which the best epoch is selected."""
    return self.runs[0]['metric']

  def select(self, **wanted: object) -> list[RunResult]:
    """The runs with these values of `FIELDS`: of several rates the best, one run of each seed."""
    own = [run for run in self.runs if all(FIELDS[k](run) == v for k, v in wanted.items())]
    return scores.at_best_rate(own)


def weights(run: Trained) -> str:
  """The adapted matrices as the paper names them, `Wq,Wv`; others by their modules' names."""
  letters = {name: letter for letter, name in translation.MATRICES.items()}
  names = [
    name for pattern in runs.targets(run) for name in re.findall(r'\w+', pattern.rpartition('/')[2])
  ]
  order = [*letters, *names]
  return ','.join(letters.get(name, name) for name in sorted(set(names), key=order.index))


def _option(name: str) -> Callable[[RunResult], object]:
  return lambda run: runs.section(run['config'], 'method').get(name)


FIELDS: dict[str, Callable[[RunResult], object]] = {
  **{name: _option(name) for name in ('rank', 'bottleneck', 'prefix', 'infix')},
  'weights': weights,
  'limit': runs.limit,
  'method': runs.method,
}


def grids(found: Sequence[RunResult], varied: Collection[str]) -> list[Grid]:
  """The grids of runs, by what differs in them other than `varied` (names of config fields)."""
  groups: dict[str, list[RunResult]] = {}
  for run in found:
    key = [runs.model_name(run), run['task'], run['metric'], _rest(run, varied)]
    groups.setdefault(json.dumps(key, sort_keys=True), []).append(run)
  made = []
  for group in groups.values():
    first = group[0]
    alike = [other[0] for other in groups.values() if _name(other[0]) == _name(first)]
    differing = [
      f'{name}={value}'
      for name, value in _rest(first, varied).items()
      if any(_rest(other, varied).get(name) != value for other in alike)
    ]
    made.append(Grid(', '.join([_name(first), *differing]), tuple(group)))
  return made


def is_of(run: Trained, grid: Grid) -> bool:
  """Whether a run that diverged is one of a grid's."""
  shared = lambda run: (run['experiment'], run['task'], run['metric'], runs.model_name(run))
  return shared(run) == shared(grid.runs[0])


def seeds(entries: Sequence[Sequence[RunResult]]) -> str:
  """`3 seeds`, or `1 to 3 seeds`, of the entries that were run."""
  counts = sorted({len(group) for group in entries if group})
  if counts == [1]:
    return '1 seed'
  return f'{counts[0]} seeds' if len(counts) == 1 else f'{counts[0]} to {counts[-1]} seeds'


Label = tuple[tuple[str, str], ...]  # The columns that name an entry, with their values.


def details(entries: Mapping[Label, Sequence[RunResult]]) -> list[dict[str, str]]:
  """A row about each entry that was run, by its label."""
  return [scores.detail(dict(label), group) for label, group in entries.items() if group]


def _name(run: RunResult) -> str:
  metric = run['metric'].rpartition('/')[2]
  return f'{run["task"]} ({metric}), {runs.model_name(run)}'


def _rest(run: RunResult, varied: Collection[str]) -> dict[str, object]:
  # Texts that a run generates beside its loss do not change the loss.
  idle = ('decode',) if run['metric'] == 'dev/loss' else ()
  return runs.without(run, *runs.LABELS, *varied, *idle)
