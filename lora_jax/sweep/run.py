"""A sweep in a folder: which groups this process trains, and which are left to do."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from lora_jax import files
from lora_jax.result_schema import RunResult
from lora_jax.sweep import choice, grouping, stacked
from lora_jax.sweep.source import Source
from lora_jax.train import locks, loop, paths, rundir, writers
from lora_jax.train.locks import Locks


def train(
  config: config_dict.ConfigDict,
  overrides: Iterable[Mapping[str, Any]],
  workdir: str | Path,
  shard: tuple[int, int] = (0, 1),
) -> dict[str, RunResult | rundir.Failure]:
  """Trains the runs of a sweep, each into a run directory of its own below `workdir`.

  An interrupted sweep is resumed: finished runs stay, and a group resumes from its last checkpoint.
  Several machines may work in one folder; one that has finished its own part trains what nobody
  has locked.

  Args:
    config: of the runs.
    overrides: of each run (`{'seed': 1, 'optim.lr': 1e-3}`).
    workdir: of the sweep: empty, or of this sweep.
    shard: (i, n) for i in [0, n): train every n-th group from the i-th on first.

  Returns:
    by the run's name its `result.json`; `{'error': ...}` of a run that diverged. Runs that another
    machine still trains are left out.

  Raises:
    ValueError: as `loop.train`; for a folder of another sweep, or one in which a run of the same
      name is finished with another config, saying what differs.
    SystemExit: as `loop.train`.
  """
  if jax.process_count() > 1:
    raise ValueError('a sweep runs in one process a machine; split it over machines by --shard=i/n')
  workdir = paths.path_of(workdir)
  if paths.on_bucket(workdir):
    raise ValueError(
      f'{workdir}: a sweep replaces the folders of its runs as a whole, and a bucket has none. '
      'Give a --workdir on a disk that the machines share, or train each run by itself: '
      'experiments.train'
    )
  members = grouping.members(config, overrides)
  check_folder(workdir, config, members)
  check_finished(workdir, members)
  if not all(outcome(workdir / member.name) for member in members):
    source = Source()
    groups = choice.choose(members, config.sweep.width, source, shard[1])
    warn_of_others(workdir / stacked.FOLDER, groups)
    train_groups(groups, source, workdir, shard)
  outcomes = {member.name: outcome(workdir / member.name) for member in members}
  if all(outcomes.values()):  # No state is needed, nor one of a start with another width.
    shutil.rmtree(workdir / stacked.FOLDER, ignore_errors=True)
  return {name: outcome for name, outcome in outcomes.items() if outcome}


def outcome(folder: Path) -> RunResult | rundir.Failure | None:
  """What a run ended with, or None for one that is not finished, or whose result is damaged."""
  return rundir.if_whole(rundir.read_outcome, folder)


def warn_of_others(folder: Path, groups: Sequence[choice.Group]) -> None:
  """Warns of states that no group of this start resumes from: of another width or shard."""
  own = {grouping.identity(group.members) for group in groups}
  others = [x for x in folder.iterdir() if x.name not in own] if folder.is_dir() else []
  if others:
    logging.warning(
      '%s holds unfinished states (%d) of groups with other members, as another --shard=i/n or '
      'config.sweep.width makes them. Unless another machine trains these groups, their runs start '
      'anew. To resume them, give the flags of that start',
      folder,
      len(others),
    )


def train_groups(
  groups: Sequence[choice.Group], source: Source, workdir: Path, shard: tuple[int, int]
) -> None:
  """Trains the groups of this shard, and then those that nobody has locked."""
  for why in dict.fromkeys(group.why for group in groups if group.why):
    print(f'sweep: {why}', file=sys.stderr, flush=True)
  index, count = shard
  own = [*groups[index::count]]
  every = [member for group in groups for member in group.members]
  print(f'sweep: {len(every)} runs, {len(groups)} programs', file=sys.stderr, flush=True)
  for group in own + [one for i, one in enumerate(groups) if i % count != index]:
    with Locks(workdir / locks.FOLDER) as owner:
      taken = tuple(x for x in group.members if outcome(workdir / x.name) or owner.take(x.name))
      folder = workdir / stacked.FOLDER / grouping.identity(taken)
      # Asked again: the owner before may have finished a run until it was locked here.
      if not all(outcome(workdir / x.name) for x in taken):
        place = f'program {groups.index(group) + 1} of {len(groups)}'
        print(f'{place}: {grouping.described(taken, every)}', file=sys.stderr, flush=True)
        train_group(group._replace(members=taken), source, workdir, folder, owner)
      shutil.rmtree(folder, ignore_errors=True)


def train_group(
  group: choice.Group, source: Source, workdir: Path, folder: Path, owner: Locks
) -> None:
  """Trains a group as one program; a member that is left alone is trained as a single run."""
  left = tuple(x for x in group.members if not outcome(workdir / x.name))
  if folder.exists() or len(left) > 1:
    chosen = group if folder.exists() else group._replace(members=left)
    stacked.train(chosen, source, workdir, folder, owner)
    return
  run = workdir / left[0].name
  try:
    loop.train(left[0].config, run)
  except FloatingPointError:  # The others go on.
    if not (run / rundir.FAILED).exists():
      raise


def check_folder(
  workdir: Path, config: config_dict.ConfigDict, members: Sequence[grouping.Member]
) -> None:
  """Writes the folder's `sweep.json`, or raises a ValueError if it holds something else.

  One that lies there alone is of a sweep of which nothing was trained, because its data or its base
  was not found: it is written anew, for the corrected command.
  """
  path = workdir / 'sweep.json'
  given = {'config': rundir.settings(config), 'runs': [x.name for x in members]}
  others = [x for x in (workdir.iterdir() if workdir.exists() else ()) if not files.is_part(x)]
  if path.exists() and others != [path]:
    try:
      found = files.read_object(path)
    except ValueError as error:
      raise ValueError(
        f'{error}. If this command is that of the sweep, remove the file: it is written anew.'
      ) from error
    rundir.check_same(f'{workdir} holds another sweep', found, writers.to_json(given))
    return
  own = {path.name, locks.FOLDER, stacked.FOLDER, *(member.name for member in members)}
  if any(other.name not in own for other in others):
    raise ValueError(f'{workdir} holds other files and no sweep.json: choose an empty --workdir')
  workdir.mkdir(parents=True, exist_ok=True)
  writers.write_json(path, given)


def check_finished(workdir: Path, members: Sequence[grouping.Member]) -> None:
  """Raises a ValueError if a finished run is of another config than the member of its name.

  Names are shortened: that of a run whose whole `method` section is overridden holds the method's
  name and none of its options. So another sweep's runs may have the same names.
  """
  for member in members:
    folder = workdir / member.name
    if (folder / 'config.json').exists() and outcome(folder):
      rundir.check_settings(folder, member.config)
