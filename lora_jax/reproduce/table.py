"""A table as entries: its units with the configs, the states and the estimates of their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from lora_jax.models import presets
from lora_jax.reproduce import fit, later, order, own, paper, states, timing, units
from lora_jax.reproduce.order import Entry
from lora_jax.reproduce.timing import Machine
from lora_jax.reproduce.units import Choice, Config, Unit

LATENCY = (('table', '1'), ('figure', '5'))
SEEDS = 3


class Table:
  """One table or figure of the paper, on the paper's model or on another.

  Attributes:
    kind, number: `table`, `3`.
    choice: what is asked of it.
    workdir: the folder of its runs.
    given: fields that all runs get.
  """

  def __init__(
    self,
    kind: str,
    number: str,
    choice: Choice,
    workdir: Path,
    configs: Mapping[str, Config],
    given: Mapping[str, object],
    searches: Callable[[], own.Searches],
    architecture: presets.Config | None = None,
  ):
    """See the class.

    Args:
      kind, number, choice, workdir, given: see the class.
      configs: the config files by name.
      searches: reads how far the searches of table 2 are.
      architecture: of the chosen model; it says which task an ablation has by default.
    """
    self.kind, self.number, self.choice, self.workdir = kind, number, choice, workdir
    self.given, self._configs, self._searches = given, configs, searches
    tasks = presets.TASKS[architecture.family] if architecture else ('lm',)
    self._default_task = 'e2e' if 'lm' in tasks else 'cola'
    self._fits = fit.Fits()
    self._computed: dict[str, float | None] = {}
    self._made: dict[tuple[str, ...], dict[str, ConfigDict]] = {}

  def entries(self, machine: Machine) -> list[Entry]:
    """The entries in their order, as they stand now.

    Raises:
      ValueError: as `paper`, `own` and the configs; for a folder that holds other runs.
    """
    made, impossible = [], set()
    for unit in self._units():
      if unit.waits and unit.part in impossible:
        continue
      runs = {} if unit.why_not else self._runs(unit)
      reasons = [why for config in runs.values() if (why := self._fits(config).why_not)]
      if reasons and unit.seed:
        continue  # Its first seed says so.
      if reasons:
        unit, runs = unit._replace(why_not=reasons[0]), {}
        impossible.add(unit.part)
      made.append(Entry(unit, runs, self.states(unit, runs), {}))
    return [entry._replace(estimates=x) for entry, x in zip(made, self._estimates(made, machine))]

  def _runs(self, unit: Unit) -> dict[str, ConfigDict]:
    key = unit.name, unit.arg, unit.waits
    if key not in self._made:
      self._made[key] = units.runs_of(unit, self._configs, self.given)
    return self._made[key]

  def states(self, unit: Unit, runs: Mapping[str, ConfigDict]) -> dict[str, states.State]:
    """The states of a unit's runs, or of the unit itself under its own name."""
    if unit.why_not or unit.waits:
      return {}
    if unit.command in ('analyze', 'latency'):
      return {unit.name: states.of_measurement(self.workdir / unit.name)}
    of_sweep = unit.command == 'sweep'
    return {
      folder: states.of_run(self.workdir / folder, config, of_sweep=of_sweep)
      for folder, config in runs.items()
    }

  def _units(self) -> list[Unit]:
    kind, number, choice = self.kind, self.number, self.choice
    if choice.paper:
      return units.with_seeds(later.rows(kind, number, choice), choice.seeds or SEEDS)
    if (kind, number) in LATENCY:
      return paper.latency(kind, choice.model)
    if what := paper.analysis_of(kind, number):
      base = choice.model.rstrip('/').rpartition('/')[2] or 'gpt2-xl'
      runs = (
        own.analyzed(what, choice, self._default_task)
        if choice.model
        else paper.analyzed(kind, number, choice)
      )
      return order.in_order([*runs, *paper.measurements(what, base)])
    of_table_2 = (kind, number) == ('table', '2')
    default = paper.SEEDS_OF_TABLE_2 if of_table_2 and not choice.model else SEEDS
    count = choice.seeds or default
    if not choice.model:
      return units.with_seeds(paper.rows(kind, number, choice), count)
    if of_table_2:
      return list(own.glue(choice._replace(seeds=count), self._searches()))
    return units.with_seeds(own.rows(kind, number, choice, self._default_task), count)

  def _estimates(
    self, entries: Sequence[Entry], machine: Machine
  ) -> list[dict[str, timing.Estimate]]:
    """What is left of each entry, by what the finished runs of all of them took."""
    finished: dict[str, list[tuple[float, float | None]]] = {}
    shapes = {folder: timing.shape_of(x) for entry in entries for folder, x in entry.runs.items()}
    for entry in entries:
      for folder, config in entry.runs.items():
        if seconds := entry.states[folder].seconds:
          own_seconds = self._seconds(shapes[folder], config, machine)
          finished.setdefault(shapes[folder], []).append((seconds + timing.START, own_seconds))

    def left(folder: str, entry: Entry) -> timing.Estimate:
      if folder not in entry.runs:
        return timing.Estimate(None, 'not estimated')
      config = entry.runs[folder]
      whole = timing.corrected(
        shapes[folder], self._seconds(shapes[folder], config, machine), finished
      )
      return timing.remaining(whole, config, entry.states[folder].step)

    return [
      {
        folder: left(folder, entry)
        for folder, state in entry.states.items()
        if not state.is_finished
      }
      for entry in entries
    ]

  def _seconds(self, shape: str, config: ConfigDict, machine: Machine) -> float | None:
    if shape not in self._computed:
      found = self._fits(config)
      self._computed[shape] = (
        timing.computed(config, found.architecture, found.trained, machine)
        if found.architecture
        else None
      )
    return self._computed[shape]
