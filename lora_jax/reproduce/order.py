"""Which unit comes next: one seed of all rows before the next seed of any, and what still fits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from lora_jax.reproduce import units
from lora_jax.reproduce.states import State
from lora_jax.reproduce.timing import Estimate
from lora_jax.reproduce.units import Unit


class Entry(NamedTuple):
  """A unit of the plan, with its runs by their folders.

  Attributes:
    unit: the unit.
    runs: the configs of its runs; none of an analysis.
    states: of its runs, or of itself under its own name.
    estimates: of what is not finished, likewise.
  """

  unit: Unit
  runs: Mapping[str, ConfigDict]
  states: Mapping[str, State]
  estimates: Mapping[str, Estimate]

  @property
  def is_finished(self) -> bool:
    return bool(self.states) and all(state.is_finished for state in self.states.values())

  @property
  def least(self) -> float:
    """Seconds of the shortest run that is left; 0 where they are not known."""
    return min((x.seconds or 0.0 for x in self.estimates.values()), default=0.0)


def in_order(of: Sequence[Unit]) -> list[Unit]:
  """The units by seed; those of one seed stay as they are."""
  return sorted(of, key=lambda unit: unit.seed)


def of_shard(entries: Sequence[Entry], shard: tuple[int, int]) -> list[Entry]:
  """The entries of part i of n; every machine finds the same parts."""
  index, count = shard
  parts = list(dict.fromkeys(entry.unit.part or entry.unit.name for entry in entries))
  own = set(parts[index::count])
  return [entry for entry in entries if (entry.unit.part or entry.unit.name) in own]


def following(
  entries: Sequence[Entry],
  shard: tuple[int, int],
  passed: Collection[str],
  left: float,
) -> Entry | None:
  """The entry to train next, or None.

  Args:
    entries: of the whole table, in order.
    shard: (i, n): the part of this machine.
    passed: units that failed, or that another process has.
    left: seconds of the budget.
  """
  ended = {folder for entry in entries for folder, x in entry.states.items() if x.is_finished}
  runs = {folder: config for entry in entries for folder, config in entry.runs.items()}
  for entry in of_shard(entries, shard):
    unit = entry.unit
    if entry.is_finished or unit.why_not or unit.waits or unit.name in passed:
      continue
    needs = [*units.selected(unit, runs), *filter(None, [unit.starts_from])]
    if ended.issuperset(needs) and entry.least <= left:
      return entry
  return None
