"""The adapter that a run trained, from its run directory; the run's data is not needed."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from lora_jax import stacking, tree
from lora_jax.adapters.adapter import Adapter
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.models import presets
from lora_jax.train import job, rundir


def from_run(workdir: str | Path, which: str = 'best') -> Adapter:
  """The adapter that a run trained. The run's base is loaded, its data is not.

  Args:
    workdir: the run directory.
    which: the checkpoint, `best` or `last`.

  Raises:
    ValueError: if the folder is not a run directory or has no such checkpoint, or if its base
      cannot be loaded.
  """
  return from_job(*load_run(workdir, which))


def load_run(workdir: str | Path, which: str = 'best') -> tuple[job.Job, tree.Params]:
  """A run and the parameters of a checkpoint, as `job.load_run`, without the run's data."""
  return job.load_run(workdir, which, rundir.read_task(workdir))


def from_job(work: job.Job, trained: tree.Params) -> Adapter:
  """The adapter of a job with these trained parameters."""
  return Adapter(
    method=stacking.looped_patterns(job.method_options(work.config, work.model)),
    trainable=jax.tree.map(np.asarray, stacking.unstack(trained)),
    config=work.model.config,
    task=work.task.kind,
    num_labels=work.task.num_labels,
    base=work.config.model.name,
    fingerprint=fingerprint(base_params(work), work.model.config),
    label_names=work.task.label_names,
  )


def base_params(work: job.Job) -> tree.Tree:
  """The parameters of a job's model before adaptation: the job's own, without those added to it."""
  own = tree.flatten(presets.abstract_params(work.model))
  leaves = tree.flatten(tree.join(work.frozen, work.trainable))
  return tree.unflatten({path: leaf for path, leaf in leaves.items() if path in own})
