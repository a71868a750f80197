"""Sections of a long measurement within a budget of time; a failure loses only what it hit."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from lora_jax.bench.timing import Rows

ERROR_END = 1500  # Characters of a child's errors that are kept: their end tells the cause.


class Found(TypedDict, total=False):
  """What a section has measured so far; `experiments.bench` writes the same fields."""

  device: str
  measured: Mapping[str, Rows]
  notes: Mapping[str, str]
  skipped: Mapping[str, Mapping[str, str]]
  versions: Mapping[str, str]


class Section(NamedTuple):
  """A part of the measurement.

  Attributes:
    name: its name.
    run: `run(left)`, given the seconds that are left, yields what it finds as it finds it.
    least: seconds without which it is not begun.
    most: seconds after which it is ended, so that the others get theirs.
  """

  name: str
  run: Callable[[float], Iterator[Found]]
  least: float = 20.0
  most: float = 150.0


class Report(TypedDict):
  """All that was measured, and how each section ended.

  Attributes:
    measured, notes, skipped: of all sections, by title.
    sections: by name its `seconds`, and `error` or `not_begun` with the reason.
  """

  device: str
  measured: dict[str, Rows]
  notes: dict[str, str]
  skipped: dict[str, Mapping[str, str]]
  sections: dict[str, dict[str, Any]]
  peers: dict[str, str]


def run(
  sections: Sequence[Section],
  seconds: float,
  save: Callable[[Report], None],
  clock: Callable[[], float] = time.monotonic,
) -> Report:
  """Runs sections in their order until the time is over.

  An error of a section ends that section alone; its text is kept. `save` is called after everything
  that a section yields and after each section, so a kill loses nothing.

  Args:
    sections: the most valuable first.
    seconds: the budget of all of them together.
    save: is given the report so far.
    clock: seconds from any moment on.
  """
  end = clock() + seconds
  report: Report = {
    'device': '', 'measured': {}, 'notes': {}, 'skipped': {}, 'sections': {}, 'peers': {},
  }  # fmt: skip
  for section in sections:
    began = clock()
    state: dict[str, Any] = {'seconds': 0.0}
    report['sections'][section.name] = state
    if end - began < section.least:
      state['not_begun'] = f'{max(end - began, 0):.0f} s were left, it needs {section.least:.0f}'
      save(report)
      continue
    try:
      for found in section.run(min(end - began, section.most)):
        _merge(report, found)
        state['seconds'] = clock() - began
        save(report)
    except Exception as error:  # Whatever went wrong, the other sections can still be measured.
      state['error'] = f'{type(error).__name__}: {error}'
    state['seconds'] = clock() - began
    save(report)
  return report


def _merge(report: Report, found: Found) -> None:
  report['measured'].update(found.get('measured', {}))
  report['notes'].update(found.get('notes', {}))
  report['skipped'].update(found.get('skipped', {}))
  report['device'] = report['device'] or found.get('device', '')
  report['peers'].update(found.get('versions', {}))


def child(command: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> str:
  """The output of a command, which is ended with all of its own processes when time is over.

  Args:
    command: the program and its arguments.
    seconds: until it is ended.
    env: variables beside those of this process.

  Raises:
    ChildError: if it fails or takes too long, with the end of what it printed as errors.
  """
  process = subprocess.Popen(
    command,
    env={**os.environ, **(env or {})},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,  # So that its children end with it.
  )
  try:
    output, errors = process.communicate(timeout=seconds)
    problem = f'ended with {process.returncode}' if process.returncode else ''
  except subprocess.TimeoutExpired:
    os.killpg(process.pid, signal.SIGKILL)
    output, errors = process.communicate()
    problem = f'was ended after {seconds:.0f} s'
  except BaseException:
    os.killpg(process.pid, signal.SIGKILL)
    raise
  if problem:
    named = ' '.join(os.path.basename(part) for part in command[:4])  # Results name no machine.
    raise ChildError(f'{named} {problem}: {errors[-ERROR_END:]}', output)
  return output


class ChildError(RuntimeError):
  """A command that failed, with its output until then."""

  def __init__(self, message: str, output: str):
    super().__init__(message)
    self.output = output
