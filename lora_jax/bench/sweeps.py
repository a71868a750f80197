"""Sweeps against single runs: by the step, and by the clock with compiling."""

from __future__ import annotations

from collections.abc import Mapping

from lora_jax.bench.steps import Case, Make, build, times
from lora_jax.bench.timing import Measured, Rounds, Row


def compare(
  together: Mapping[str, Make], alone: Make, case: Case, rounds: Rounds, members: int, steps: int
) -> Measured:
  """A sweep of some members in one program against as many runs, one after the other.

  Args:
    together: makes the step of all members, by how they get their batches.
    alone: makes the step of one run.
    case, rounds: as for `steps.build`. Programs are compiled one at a time.
    members: number of runs.
    steps: steps of each run.
  """
  single = 'one run'
  variants, skipped = build({**together, single: alone}, case, rounds)
  seconds = times(variants, case, rounds)
  batch = case.times(rounds.steps_per_call)
  rows: dict[str, Row] = {}
  for name, variant in variants.items():
    found = variant.program(batch)
    runs = members if name == single else 1  # How often a program runs for all of the members.
    # The first of the runs compiles; the others trace, and read the program from JAX's cache.
    clock = found.compiling + runs * (found.tracing + steps * seconds[name])
    rows[name] = {
      'seconds': seconds[name],
      'tracing': found.tracing,
      'compiling': found.compiling,
      'seconds_by_the_clock': clock,
      'peak_bytes': variant.size(batch)['peak_bytes'],
    }
  base = rows.get(single, {})
  for name, row in rows.items() if base else ():
    runs = 1 if name == single else members
    row['seconds_ratio'] = row['seconds'] / base['seconds']
    row['step_gain'] = runs * base['seconds'] / row['seconds']
    row['clock_gain'] = base['seconds_by_the_clock'] / row['seconds_by_the_clock']
  note = (
    f'{members} runs of {steps} steps each. step_gain: how many times as fast one program makes '
    'the steps of all as a single run makes them one after the other; clock_gain: the same with '
    'compiling, where single runs compile once and trace each time (computed from the measured '
    f'seconds; starting a process and evaluating are not in it). Seconds of a step are {rounds}.'
  )
  return Measured(rows, note, skipped)
