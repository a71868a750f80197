"""Run directories: whose one is, what it was made with, and being asked to stop while in one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from lora_jax.train import paths, writers


def is_run(name: str | os.PathLike) -> bool:
  """Whether a model's name is a run directory of this project."""
  return (paths.path_of(name) / 'checkpoints').is_dir()


def read_config(workdir: str | Path) -> config_dict.ConfigDict:
  """The config that a run directory was made with.

  Raises:
    ValueError: if the folder holds none.
  """
  path = paths.path_of(workdir) / 'config.json'
  try:
    return config_dict.ConfigDict(json.loads(path.read_text()))
  except FileNotFoundError as error:
    raise ValueError(f'{workdir} is no run directory: it has no config.json') from error
  except ValueError as error:
    raise ValueError(f'{path} is no JSON: {error}') from error


def read_result(workdir: Path) -> dict[str, Any] | None:
  """A finished run's `result.json`; None of one that is not finished."""
  path = workdir / 'result.json'
  return json.loads(path.read_text()) if path.exists() else None


def begin(workdir: Path, config: config_dict.ConfigDict) -> None:
  """Makes a directory a run's own, by its `config.json`; one that has it stays as it is."""
  workdir.mkdir(parents=True, exist_ok=True)
  if not (workdir / 'config.json').exists():
    writers.write_json(workdir / 'config.json', json.loads(config.to_json_best_effort()))


def check(workdir: Path, config: config_dict.ConfigDict) -> None:
  """Raises a ValueError if a directory is neither empty nor that of a run of this config.

  The message has the keys that differ.
  """
  if not workdir.exists() or not any(workdir.iterdir()):
    return
  if not (workdir / 'config.json').exists():
    raise ValueError(f'{workdir} holds other files and no config.json: choose an empty --workdir')
  ours = json.loads(config.to_json_best_effort())
  theirs = json.loads(read_config(workdir).to_json_best_effort())
  for fields in (ours, theirs):
    fields.pop('sweep', None)  # How many runs are trained together changes none of them.
  check_same(f'{workdir} holds a run of another config', theirs, ours)


def check_same(what: str, theirs: Any, ours: Any) -> None:
  """Raises a ValueError, beginning with `what`, that has the keys in which two dicts differ."""
  differing = dict(differences(theirs, ours))
  if differing:
    listed = '\n'.join(f'  {key}: {old} there, {new} here' for key, (old, new) in differing.items())
    raise ValueError(
      f'{what}:\n{listed}\nChoose another --workdir, or give the same values to go on with it.'
    )


def differences(old: Any, new: Any, key: str = '') -> Iterator[tuple[str, tuple[Any, Any]]]:
  """Leaves of two nested dicts that differ: (`a.b.c`, (old, new)); absent ones are None."""
  if isinstance(old, dict) and isinstance(new, dict):
    for name in [*old, *(name for name in new if name not in old)]:
      yield from differences(old.get(name), new.get(name), f'{key}.{name}' if key else name)
  elif old != new:
    yield key, (old, new)


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
  """An event that SIGTERM sets inside the block (in the main thread, where signals arrive)."""
  interrupted = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield interrupted
    return
  before = signal.signal(signal.SIGTERM, lambda *_: interrupted.set())
  try:
    yield interrupted
  finally:
    signal.signal(signal.SIGTERM, before)
