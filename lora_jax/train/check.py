"""Whether what a run or a sweep left on its disk or bucket is whole; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lora_jax import files, provenance
from lora_jax.result_schema import RunResult
from lora_jax.train import curve, paths, rundir, step_files, writers
from lora_jax.train.checkpoints import SET_ASIDE, Checkpoints

UNVERIFIED = 'of an older version, without digests: it cannot be verified'


class Finding(NamedTuple):
  """What was found of a file or a checkpoint.

  Attributes:
    path: where it is.
    what: `whole`, or what is to be said of it.
    is_damaged: whether it is not what was written.
  """

  path: Path
  what: str = 'whole'
  is_damaged: bool = False


def read_result(workdir: Path) -> RunResult | None:
  """As `rundir.read_result`, compared with the history in the last checkpoint, if there is one.

  Raises:
    ValueError: if it is damaged, naming it.
  """
  result = rundir.read_result(workdir)
  if result is None:
    return None
  saved = _progress(workdir).get('history')
  if saved and writers.to_json(saved) != result['history']:
    raise ValueError(f'{workdir / "result.json"}: its history is not that of the last checkpoint')
  return result


def check(workdir: Path) -> Iterator[Finding]:
  """Reads everything of a run directory, or of the folder of a sweep.

  Raises:
    ValueError: for another folder.
  """
  sweep = workdir / 'sweep.json'
  if sweep.exists():
    yield _try(sweep, files.read_object)
    for folder in sorted(workdir.iterdir()):
      if (folder / 'config.json').exists():
        yield from _check_run(folder)
    groups = workdir / 'groups'
    for folder in sorted(groups.iterdir()) if groups.exists() else ():
      yield from _check_steps(folder)
  elif (workdir / 'config.json').exists() or rundir.is_run(workdir):
    yield from _check_run(workdir)
  else:
    raise ValueError(f'{workdir} is neither a run directory nor the folder of a sweep')


def _check_run(workdir: Path) -> Iterator[Finding]:
  yield _try(workdir / 'config.json', lambda path: rundir.read_config(path.parent))
  for name, read in {'result.json': read_result, rundir.FAILED: rundir.read_outcome}.items():
    if (workdir / name).exists():
      yield _try(workdir / name, lambda path, read=read: read(path.parent))
  if (workdir / 'metrics.jsonl').exists():
    yield _try(workdir / 'metrics.jsonl', _read_metrics)
  if (workdir / provenance.FILE).exists():
    record = lambda path: provenance.read_record(path.parent)
    yield _try(workdir / provenance.FILE, record)
  if (workdir / rundir.TASK).exists():
    yield _try(workdir / rundir.TASK, rundir.read_kind)
  yield from _check_steps(workdir)


def _check_steps(workdir: Path) -> Iterator[Finding]:
  """What is found of each checkpoint of a run, or of a sweep's group."""
  saved = Checkpoints(workdir)
  notes = {}
  for step in saved.steps():
    folder = saved.folder / str(step)
    try:
      notes[step] = step_files.verify(folder)
      yield Finding(folder, 'whole' if notes[step].digests is not None else UNVERIFIED)
    except step_files.Damaged as error:
      yield Finding(folder, str(error), is_damaged=True)
  if notes and (best := notes[max(notes)].best) is not None and best not in saved.steps():
    yield Finding(saved.folder / str(best), 'the best checkpoint is gone', is_damaged=True)
  for path in sorted(saved.folder.iterdir()) if saved.folder.exists() else ():
    if path.name.endswith(SET_ASIDE):
      yield Finding(path, 'set aside by a resumed run, which does not need it: it can be removed')


def _read_metrics(path: Path) -> None:
  """Raises a ValueError if the file is damaged, or is not what the run's other files say."""
  entries = curve.read(path)
  if not (result := rundir.if_whole(rundir.read_result, path.parent)):
    return
  found = [entry for entry in entries if not curve.is_point(entry)]
  if writers.to_json(result['history']) != found:
    raise ValueError(f'{path}: its evaluations are not those of the history in result.json')
  points = _progress(path.parent).get('points')
  if points is not None and points != [entry for entry in entries if curve.is_point(entry)]:
    raise ValueError(f'{path}: its training curve is not that of the last checkpoint')


def _progress(workdir: Path) -> Mapping[str, object]:
  """The progress in the last checkpoint; empty where it is damaged, or there is none."""
  saved = Checkpoints(workdir)
  step = saved.last_step()
  try:
    return step_files.read(saved.folder / str(step)).progress
  except step_files.Damaged:
    return {}


def _try(path: Path, read: Callable[[Path], object]) -> Finding:
  try:
    read(path)
  except (ValueError, OSError) as error:
    return Finding(path, str(error), is_damaged=True)
  return Finding(path)


def table(workdir: str | Path) -> tuple[str, bool]:
  """A line for each file and checkpoint, and whether none is damaged.

  Raises:
    ValueError: as `check`.
  """
  folder = paths.path_of(workdir)
  found = list(check(folder))
  names = [str(finding.path.relative_to(folder)) for finding in found]
  width = max(map(len, names))
  lines = [
    f'{name:{width}}  {"DAMAGED: " if finding.is_damaged else ""}{finding.what}'
    for name, finding in zip(names, found)
  ]
  return '\n'.join(lines), not any(finding.is_damaged for finding in found)
