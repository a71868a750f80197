"""Run directories: the config that one was made with, its result, and interruption by a signal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict, cast

import jax
from ml_collections import config_dict

from lora_jax import fields, files
from lora_jax.result_schema import RunResult
from lora_jax.train import hosts, paths, writers

FAILED = 'failed.json'  # It takes the place of result.json where a sweep's run diverged.


class Failure(TypedDict):
  """The contents of `failed.json`: what was not finite, at which step."""

  error: str


def is_run(name: str | os.PathLike[str]) -> bool:
  """Whether a model's name is a run directory of this project."""
  return (paths.path_of(name) / 'checkpoints').is_dir()


def read_config(workdir: str | Path) -> config_dict.ConfigDict:
  """The config that a run directory was made with.

  Raises:
    ValueError: if the directory has none, or a damaged one.
  """
  path = paths.path_of(workdir) / 'config.json'
  try:
    config = config_dict.ConfigDict(cast(dict[str, object], files.read_json(path)))
  except FileNotFoundError as error:
    raise ValueError(f'{workdir} is not a run directory: it has no config.json') from error
  try:
    fields.check(config)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return config


def read_result(workdir: Path) -> RunResult | None:
  """A finished run's `result.json`; None for a run that is not finished."""
  path = workdir / 'result.json'
  return cast(RunResult, files.read_json(path)) if path.exists() else None


def read_outcome(workdir: Path) -> RunResult | Failure | None:
  """As `read_result`; for a run of a sweep that diverged its `failed.json`, `{'error': ...}`."""
  path = workdir / FAILED
  return cast(Failure, files.read_json(path)) if path.exists() else read_result(workdir)


def begin(workdir: Path, config: config_dict.ConfigDict) -> None:
  """Makes a directory a run's own by writing its `config.json`, unless it has one.

  The first process writes it when all processes are ready; the others check that they see it.

  Raises:
    ValueError: if another process does not see the directory, or sees that of another run.
  """
  hosts.wait('checked')
  if hosts.is_first():
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / 'config.json').exists():
      writers.write_json(workdir / 'config.json', json.loads(config.to_json_best_effort()))
  hosts.wait('begun')
  if hosts.is_first():
    return
  if not (workdir / 'config.json').exists():
    raise ValueError(
      f'process {jax.process_index()} does not see {workdir}, which process 0 made. Give a '
      '--workdir on a disk or bucket that all hosts share.'
    )
  check(workdir, config)


def check(workdir: Path, config: config_dict.ConfigDict) -> None:
  """Raises a ValueError if a directory is neither empty nor that of a run of this config.

  The message lists the keys that differ.
  """
  if not workdir.exists() or not any(workdir.iterdir()):
    return
  if not (workdir / 'config.json').exists():
    raise ValueError(f'{workdir} holds other files and no config.json: choose an empty --workdir')
  given = json.loads(config.to_json_best_effort())
  found = json.loads(read_config(workdir).to_json_best_effort())
  for one in (given, found):
    one.pop('sweep', None)  # How many runs are trained together changes none of them.
  check_same(f'{workdir} holds a run of another config', found, given)


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


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
  """An event that SIGTERM sets inside the block (in the main thread, where signals arrive).

  With several processes the signal is left to JAX (`hosts.stopping`).
  """
  interrupted = threading.Event()
  main = threading.current_thread() is threading.main_thread()
  if not main or jax.process_count() > 1:
    yield interrupted
    return
  before = signal.signal(signal.SIGTERM, lambda *_: interrupted.set())
  try:
    yield interrupted
  finally:
    signal.signal(signal.SIGTERM, before)
