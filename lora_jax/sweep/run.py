"""A sweep in a folder: which chunks are whose, and what is left to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from lora_jax.sweep import chunk, grouping
from lora_jax.sweep.lane import FAILED
from lora_jax.sweep.locks import Claims
from lora_jax.train import loop, paths, rundir, writers


def train(
  config: config_dict.ConfigDict,
  overrides: Iterable[Mapping[str, Any]],
  workdir: str | Path,
  shard: tuple[int, int] = (0, 1),
) -> dict[str, dict[str, Any]]:
  """Trains the runs of a sweep, each into a run directory of its own below `workdir`.

  A sweep that was interrupted is gone on with: finished runs stay, a chunk goes on from its last
  checkpoint. Several machines may work in one folder; one that ends its own part takes what nobody
  has claimed.

  Args:
    config: of the runs.
    overrides: of each run (`{'seed': 1, 'optim.lr': 1e-3}`).
    workdir: of the sweep: empty, or of this sweep.
    shard: (i, n) for i in [0, n): begin with every n-th chunk from the i-th on.

  Returns:
    by the run's name its `result.json`; `{'error': ...}` of a run that diverged. Runs that another
    machine is still busy with are left out.

  Raises:
    ValueError: as `loop.train`; for a folder of another sweep, saying what differs.
    SystemExit: with status 143 after SIGTERM, when the state is saved.
  """
  if jax.process_count() > 1:
    raise ValueError('a sweep runs in one process a machine; split it over machines by --shard=i/n')
  workdir = paths.path_of(workdir)
  if paths.on_bucket(workdir):
    raise ValueError(
      f'{workdir}: the runs of a sweep are shared out by claims, files that only one machine can '
      'make, and a bucket has none such. Give a --workdir on a disk (that the machines share), or '
      'a run its own: experiments.train'
    )
  lanes = grouping.lanes(config, overrides)
  chunks = grouping.plan(lanes, grouping.width(config))
  check_folder(workdir, config, lanes)
  index, count = shard
  for planned in chunks[index::count] + [c for i, c in enumerate(chunks) if i % count != index]:
    with Claims(workdir / 'claims') as claims:
      ours = [lane for lane in planned if finished(workdir / lane.name) or claims.take(lane.name)]
      folder = workdir / 'chunks' / grouping.identity(ours)
      # Asked again: the owner before us may have finished it until we took it.
      if not all(finished(workdir / lane.name) for lane in ours):
        train_chunk(ours, workdir, folder, claims)
      shutil.rmtree(folder, ignore_errors=True)
  read = (finished(workdir / lane.name) for lane in lanes)
  return {lane.name: found for lane, found in zip(lanes, read) if found}


def train_chunk(ours: Sequence[grouping.Lane], workdir: Path, folder: Path, claims: Claims) -> None:
  """Trains lanes as one program; one that is left alone goes the way of any single run."""
  left = [lane for lane in ours if not finished(workdir / lane.name)]
  if folder.exists() or len(left) > 1:
    chunk.train(ours if folder.exists() else left, workdir, folder, claims.lost)
    return
  run = workdir / left[0].name
  try:
    loop.train(left[0].config, run)
  except FloatingPointError as error:
    writers.write_json(run / FAILED, {'error': str(error)})


def finished(run: Path) -> dict[str, Any] | None:
  """The result of a run, `{'error': ...}` if it diverged, None if it is not finished."""
  for name in ('result.json', FAILED):
    if (run / name).exists():
      return json.loads((run / name).read_text())
  return None


def check_folder(
  workdir: Path, config: config_dict.ConfigDict, lanes: Sequence[grouping.Lane]
) -> None:
  """Makes the folder's `sweep.json`, or raises a ValueError if it is of something else."""
  path = workdir / 'sweep.json'
  ours = {'config': json.loads(config.to_json_best_effort()), 'runs': [x.name for x in lanes]}
  ours['config'].pop('sweep')  # The same runs, whatever the width.
  if not path.exists():
    if workdir.exists() and any(workdir.iterdir()):
      raise ValueError(f'{workdir} holds other files and no sweep.json: choose an empty --workdir')
    workdir.mkdir(parents=True, exist_ok=True)
    writers.write_json(path, ours)
    return
  theirs = json.loads(path.read_text())
  rundir.check_same(f'{workdir} holds another sweep', theirs, writers.to_json(ours))
