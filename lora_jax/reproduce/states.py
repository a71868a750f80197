"""What is on the disk of a run: it is finished, interrupted, being trained, or not begun."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, cast

from ml_collections import ConfigDict

from lora_jax.result_schema import RunResult
from lora_jax.sweep import stacked
from lora_jax.train import locks, rundir
from lora_jax.train.checkpoints import Checkpoints

ANALYSIS = ('analysis.json', 'latency.json')  # What a command without runs leaves.


class State(NamedTuple):
  """The state of a run.

  Attributes:
    is_finished: it has ended, well or not.
    what: in words.
    seconds: that a finished run took; 0 where they are not known.
    step: the last one that is saved of a run that is not finished.
    owner: the process that trains it.
  """

  is_finished: bool
  what: str
  seconds: float = 0.0
  step: int = 0
  owner: locks.Owner | None = None


def of_run(folder: Path, config: ConfigDict, *, of_sweep: bool) -> State:
  """The state of a run directory.

  Args:
    folder: the run directory.
    config: that it has to be of.
    of_sweep: whether it is of a sweep, whose folder is the one above.

  Raises:
    ValueError: if it holds a run of another config, listing what differs.
  """
  if (folder / 'config.json').exists():
    rundir.check_settings(folder, config)
  if outcome := rundir.if_whole(rundir.read_outcome, folder):
    if 'error' in outcome:
      return State(True, f'diverged: {outcome["error"]}')
    seconds = cast(RunResult, outcome)['seconds']
    return State(True, 'finished', float(sum(seconds.values())))
  where, name = (folder.parent, folder.name) if of_sweep else (folder, 'run')
  step = last_step([*(where / stacked.FOLDER).glob('*')] if of_sweep else []) or last_step([folder])
  what = f'interrupted at step {step}' if step else 'to run'
  if owner := locks.Locks(where / locks.FOLDER).owner(name):
    return State(False, f'running ({owner})', step=step, owner=owner)
  return State(False, what, step=step)


def of_measurement(folder: Path) -> State:
  """The state of a folder that a command without runs writes."""
  done = any((folder / name).exists() for name in ANALYSIS)
  return State(done, 'finished' if done else 'to run')


def last_step(folders: Iterable[Path]) -> int:
  """The latest step that is saved in any of the folders; 0 if none is."""
  return max((step for folder in folders for step in Checkpoints(folder).steps()), default=0)
