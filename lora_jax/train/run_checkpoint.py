"""What a run's checkpoint trained, by itself: neither the run's data nor its base is read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ml_collections import config_dict

from lora_jax import tree
from lora_jax.train import paths, rundir
from lora_jax.train.state import Checkpoints


class RunCheckpoint(NamedTuple):
  """The config of a run, and the trainable parameters at a step."""

  config: config_dict.ConfigDict
  step: int
  trainable: tree.Params


def read(
  workdir: str | Path, which: str = 'best', like: tree.Params | None = None
) -> RunCheckpoint:
  """Reads the `best` or the `last` checkpoint of a run directory.

  Args:
    workdir: the run directory.
    which: `best` or `last`.
    like: parameters of the shapes and shardings to restore; None for the shapes that were saved.

  Raises:
    ValueError: if the folder is not a run directory, or has no such checkpoint.
  """
  config = rundir.read_config(workdir)
  folder = paths.path_of(workdir)
  if not (folder / 'checkpoints').is_dir():
    raise ValueError(f'{workdir} has no checkpoints. Train it first: experiments.train')
  checkpoints = Checkpoints(folder, config.checkpoint.keep)
  try:
    step = checkpoints.best_step() if which == 'best' else checkpoints.last_step()
    if step is None:
      raise ValueError(f'{workdir} has no {which} checkpoint. Train it first: experiments.train')
    return RunCheckpoint(config, step, checkpoints.restore_trainable(step, like))
  finally:
    checkpoints.close()
