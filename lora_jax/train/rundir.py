"""Run directories: the config that one was made with, its result."""

from __future__ import annotations

import copy
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict, TypeVar, cast

import jax
from ml_collections import config_dict

from lora_jax import fields, files, provenance
from lora_jax.data import records, tasks
from lora_jax.result_schema import RunResult
from lora_jax.train import hosts, locks, paths, writers

TASK = 'task.json'  # What a model has to know of the task, whether or not its data is still there.
FAILED = 'failed.json'  # It takes the place of result.json where a run diverged.


Outcome = TypeVar('Outcome')


class Failure(TypedDict):
  """The contents of `failed.json`: what was not finite, at which step."""

  error: str


def is_run(name: str | os.PathLike[str]) -> bool:
  """Whether a model's name is a run directory of this project."""
  return (paths.path_of(name) / 'checkpoints').is_dir()


def predictions(workdir: Path, split: str) -> Path:
  """The file of the texts that a run decodes at its end, one a line."""
  return workdir / f'predictions-{split}.txt'


def read_config(workdir: str | Path) -> config_dict.ConfigDict:
  """The config that a run directory was made with.

  Raises:
    ValueError: if the directory has none, or a damaged one.
  """
  path = paths.path_of(workdir) / 'config.json'
  try:
    provenance.note(path)
    found = files.read_object(path)
  except FileNotFoundError as error:
    raise ValueError(f'{workdir} is not a run directory: it has no config.json') from error
  _check_fields(path, found, {'task': str, 'model': dict, 'method': dict})
  config = config_dict.ConfigDict(found)
  try:
    fields.check(config)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return config


def own_files(config: config_dict.ConfigDict) -> records.Files | None:
  """A user's own files that a config names; None for a task of another kind."""
  return records.Files(**config.own) if 'own' in config else None


def keep_task(workdir: Path, task: tasks.Task) -> None:
  """Writes the task's kind and the names of its classes into a run directory."""
  known = {'kind': task.kind, 'label_names': list(task.label_names)}
  writers.write_json(workdir / TASK, known)


def read_task(workdir: str | Path) -> tasks.Task:
  """The task that a run was trained on, without its data.

  Raises:
    ValueError: if the directory has no config, or a damaged file.
  """
  config = read_config(workdir)
  path = paths.path_of(workdir) / TASK
  if not path.exists():  # A run of an older version.
    return tasks.without_data(config.task, own_files(config))
  provenance.note(path)
  return tasks.of_kind(config.task, *read_kind(path))


def read_kind(path: Path) -> tuple[str, list[str]]:
  """The kind of a task and the names of its classes, as `keep_task` writes them.

  Raises:
    ValueError: if the file is damaged, naming it.
  """
  found = files.read_object(path)
  _check_fields(path, found, {'kind': str, 'label_names': list})
  return str(found['kind']), [str(name) for name in found['label_names']]


def read_result(workdir: Path) -> RunResult | None:
  """A finished run's `result.json`; None for a run that is not finished.

  Raises:
    ValueError: if it is damaged, naming it.
  """
  path = workdir / 'result.json'
  if not path.exists():
    return None
  found = files.read_object(path)
  _check_fields(path, found, {'metric': str, 'history': list, 'best': dict, 'last': dict})
  if not found['history'] or found['best'] not in found['history']:
    raise ValueError(f'{path}: expected a history that holds the best evaluation')
  if found['metric'] not in found['best']:
    raise ValueError(f'{path}: expected the best evaluation to have {found["metric"]!r}')
  return cast(RunResult, found)


def read_outcome(workdir: Path) -> RunResult | Failure | None:
  """As `read_result`; for a run that diverged its `failed.json`, `{'error': ...}`."""
  path = workdir / FAILED
  if not path.exists():
    return read_result(workdir)
  found = files.read_object(path)
  _check_fields(path, found, {'error': str})
  return cast(Failure, found)


def check_diverged(workdir: Path) -> None:
  """Raises a FloatingPointError if a run diverged: begun again, it would do so at the same step."""
  outcome = if_whole(read_outcome, workdir)
  if outcome and 'error' in outcome:
    raise FloatingPointError(
      f'{workdir} diverged: {outcome["error"]} Choose other settings and another --workdir; or '
      f'remove {workdir / FAILED}, and the same command resumes from the last checkpoint'
    )


def if_whole(read: Callable[[Path], Outcome | None], workdir: Path) -> Outcome | None:
  """What `read_result` or `read_outcome` reads; None, with a warning, for a damaged file.

  Training then ends the run again, from what is whole.
  """
  try:
    return read(workdir)
  except ValueError as error:
    logging.warning('%s. It is written anew from what is whole', error)
    return None


def _check_fields(path: Path, found: Mapping[str, object], expected: Mapping[str, type]) -> None:
  """Raises a ValueError that names the file if a field is missing or of another type."""
  for name, kind in expected.items():
    if not isinstance(found.get(name), kind):
      raise ValueError(
        f'{path}: expected {name!r} to be a {kind.__name__}, found {str(found.get(name))[:40]!r}'
      )


def begin(workdir: Path, config: config_dict.ConfigDict) -> None:
  """Makes a directory a run's own by writing its `config.json`, unless it has one.

  The first process writes it when all processes are ready; the others check that they see it, by a
  file of this start: on a disk of its own a host may have a run of the same config, begun alone.

  Raises:
    ValueError: if another process does not see the directory.
  """
  hosts.wait('checked')
  mark = workdir / f'.{hosts.agreed(secrets.randbelow(2**31))}{files.PART}'
  if hosts.is_first():
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / 'config.json').exists():
      writers.write_json(workdir / 'config.json', json.loads(config.to_json_best_effort()))
    writers.write_text(mark, '')
  hosts.wait('begun')
  if not mark.exists():
    raise ValueError(
      f'process {jax.process_index()} does not see the {workdir} of process 0. Give a --workdir on '
      'a disk or bucket that all hosts share.'
    )
  hosts.wait('seen')
  if hosts.is_first():
    paths.remove(mark)


def keep_inputs(workdir: Path, found: provenance.Inputs) -> provenance.Inputs:
  """Checks the files that a run is made from against the directory's record, and keeps them there.

  Args:
    workdir: the run directory.
    found: the files that this process has read, with their sizes and digests.

  Returns:
    the record.

  Raises:
    ValueError: as `provenance.check`; on each process, for the files that it has read.
  """
  if hosts.is_first():
    provenance.check(workdir, found, whole=True)
    kept = provenance.updated(provenance.read_record(workdir), found)
    writers.write_json(workdir / provenance.FILE, kept)
  hosts.wait('inputs')
  if not hosts.is_first():
    provenance.check(workdir, found, whole=True)
  return provenance.read_record(workdir) or {}


def read_base_weights(workdir: Path) -> dict[str, object]:
  """SHA-256 of the files of the base's weights by their names, as a directory has them on record.

  Raises:
    ValueError: if the record is damaged.
  """
  record = provenance.read_record(workdir) or {}
  is_weights = lambda name: name.startswith('base/') and not name.endswith(('.json', '.txt'))
  return {name: entry['sha256'] for name, entry in record.items() if is_weights(name)}


def check(workdir: Path, config: config_dict.ConfigDict) -> None:
  """Raises a ValueError if a directory is neither empty nor that of a run of this config.

  The message lists the keys that differ. A directory in which another process trains is refused
  too, by that process's name.
  """
  locks.check_free(workdir)
  found = workdir.iterdir() if workdir.exists() else ()
  if all(path.name == locks.FOLDER or files.is_part(path) for path in found):
    return
  if not (workdir / 'config.json').exists():
    if is_run(workdir):  # It was removed because it was damaged: `begin` writes it anew.
      return
    raise ValueError(f'{workdir} holds other files and no config.json: choose an empty --workdir')
  check_settings(workdir, config)


def check_processes(config: config_dict.ConfigDict) -> None:
  """Raises a ValueError if this process was given another config than the first one.

  Before anything is computed together: with other shapes the processes would wait for each other,
  or end in errors of the library that connects them.
  """
  _check_with_first(
    'was given another config than process 0',
    settings(config),
    'Start all processes with the same --config and the same fields.',
  )


def check_inputs(found: provenance.Inputs) -> None:
  """Raises a ValueError if this process reads other files than the first one.

  The run would be of both, or wait forever where one has fewer batches.

  Args:
    found: the files that this process has read, with their sizes and digests.
  """
  _check_with_first(
    'reads other files than process 0',
    {name: f'{one["bytes"]} bytes, {one["sha256"][:12]}' for name, one in found.items()},
    'Give all processes the same files. No option allows others: the run would be of both.',
  )


def _check_with_first(what: str, given: files.Json, remedy: str) -> None:
  """Raises a ValueError, with `what` and all differences, if a dict is not the first process's."""
  first = json.loads(hosts.from_first(json.dumps(given)))
  own = jax.process_index()
  if listed := [
    f'  {key}: {theirs} in process 0, {ours} in process {own}'
    for key, (theirs, ours) in differences(first, given)
  ]:
    lines = '\n'.join(listed)
    raise ValueError(f'process {own} {what}:\n{lines}\n{remedy}')


def as_begun(workdir: Path, config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """The config with what it leaves open chosen as the run of a directory has begun.

  The layout of a run's layers is that of its checkpoints, on whatever device it is resumed.
  """
  if config.model.scan is not None or not (workdir / 'config.json').exists():
    return config
  found = copy.deepcopy(config)
  found.model.scan = read_config(workdir).model.get('scan')
  return found


def settings(config: config_dict.ConfigDict) -> dict[str, object]:
  """A config as JSON, without the fields that change none of a run's results."""
  found = json.loads(config.to_json_best_effort())
  found.pop('sweep', None)  # How many runs are trained together.
  found.get('train', {}).pop('log_every', None)
  return found


def check_settings(workdir: Path, config: config_dict.ConfigDict) -> None:
  """Raises a ValueError that lists the keys in which a run's `config.json` is another config."""
  try:
    found = settings(read_config(workdir))
    config = as_begun(workdir, config)
  except ValueError as error:
    raise ValueError(
      f'{error}. If the --config given is that of this run, remove the file: it is written anew.'
    ) from error
  check_same(f'{workdir} holds a run of another config', found, settings(config))


def check_same(what: str, found: object, given: object) -> None:
  """Raises a ValueError, beginning with `what`, that lists the keys in which two dicts differ."""
  differing = dict(differences(found, given))
  if differing:
    listed = '\n'.join(
      f'  {key}: {old} in the directory, {new} given' for key, (old, new) in differing.items()
    )
    raise ValueError(
      f'{what}:\n{listed}\nChoose another --workdir, or give the same values to resume it.'
    )


def differences(
  old: object, new: object, key: str = ''
) -> Iterator[tuple[str, tuple[object, object]]]:
  """Leaves of two nested dicts that differ: (`a.b.c`, (old, new)); absent ones are None."""
  if isinstance(old, dict) and isinstance(new, dict):
    for name in [*old, *(name for name in new if name not in old)]:
      yield from differences(old.get(name), new.get(name), f'{key}.{name}' if key else name)
  elif old != new:
    yield key, (old, new)
