"""The plan of a table in words: its runs, what is finished, and how long the rest will take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lora_jax.reproduce.order import Entry
from lora_jax.reproduce.timing import Machine

HEADER = ('row', 'seed', 'state', 'minutes', 'estimate')


def lines(entries: Sequence[Entry], machine: Machine) -> Iterator[str]:
  """A line for each run, and one about all of them."""
  rows = [HEADER, *(row for entry in entries for row in _rows(entry))]
  widths = [max(len(row[place]) for row in rows) for place in range(len(HEADER))]
  for row in rows:
    yield '  '.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
  yield summary(entries, machine)


def summary(entries: Sequence[Entry], machine: Machine) -> str:
  """How many runs are finished, how many are left and about how long they take here."""
  states = [state for entry in entries for state in entry.states.values()]
  finished = sum(state.is_finished for state in states)
  known = [x.seconds for entry in entries for x in entry.estimates.values()]
  minutes = sum(seconds or 0.0 for seconds in known) / 60
  unknown = f', {known.count(None)} of unknown length' if None in known else ''
  waiting = sum(bool(entry.unit.waits) for entry in entries)
  unknown += f', and {waiting} after them' if waiting else ''
  where = f'{machine.count} x {machine.name}'
  return (
    f'{finished} of {len(states)} finished; {len(states) - finished} left{unknown}: about '
    f'{minutes:.0f} minutes on {where}. This is an estimate.'
  )


def _rows(entry: Entry) -> Iterator[tuple[str, ...]]:
  unit = entry.unit
  if unit.why_not or unit.waits:
    state = f'not run: {unit.why_not}' if unit.why_not else f'waits for {unit.waits}'
    yield unit.label, '' if unit.why_not else str(unit.seed), state, '', ''
    return
  for folder, state in entry.states.items():
    member = re.sub(r'(^|,)seed=\d+', '', folder.removeprefix(unit.name).lstrip('/'))
    label = unit.label if folder == unit.name else f'{unit.label}: {member}'
    estimate = entry.estimates.get(folder)
    if estimate is None:
      minutes = (f'{state.seconds / 60:.1f}', 'took') if state.seconds else ('', '')
    else:
      seconds = estimate.seconds
      minutes = ('?' if seconds is None else f'{seconds / 60:.1f}', estimate.source)
    yield (label, str(unit.seed), state.what, *minutes)
