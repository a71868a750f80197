"""Adapters of runs: what a run directory's checkpoint trained, apart from data and base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from lora_jax import stacking, tree
from lora_jax.adapters.adapter import TOKENS, Adapter
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.data import tasks
from lora_jax.train import job, rundir


def from_run(workdir: str | Path, which: str = 'best') -> Adapter:
  """The adapter that a run trained. The run's base is loaded, its data is not.

  Args:
    workdir: the run directory.
    which: `best` or `last` checkpoint.

  Raises:
    ValueError: if the folder is no run directory or has no such checkpoint, or its base cannot be
      loaded.
  """
  return of_job(*load_run(workdir, which))


def load_run(workdir: str | Path, which: str = 'best') -> tuple[job.Job, dict[str, Any]]:
  """As `job.load_run`, without the run's data."""
  return job.load_run(workdir, which, tasks.without_data(rundir.read_config(workdir).task))


def of_job(work: job.Job, trained: tree.Params) -> Adapter:
  """The adapter of a job whose trained parameters are given."""
  return Adapter(
    method=stacking.looped_patterns(job.method_options(work.config, work.model)),
    trainable=jax.tree.map(np.asarray, stacking.unstack(trained)),
    config=work.model.config,
    task=work.task.kind,
    num_labels=work.task.num_labels,
    base=work.config.model.name,
    fingerprint=fingerprint(base_of(work), work.model.config),
  )


def base_of(work: job.Job) -> dict[str, Any]:
  """The parameters that the run began with, before adaptation."""
  declared = tree.flatten(jax.eval_shape(work.model.init, jax.random.key(0), TOKENS)['params'])
  began = tree.flatten(work.trainable)
  own = {path: leaf for path, leaf in began.items() if path in declared}
  return tree.join(work.frozen, tree.unflatten(own))
