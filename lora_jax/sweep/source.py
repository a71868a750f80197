"""The data and the bases of a sweep's runs: what several of them share is loaded once."""

from __future__ import annotations

import json
from collections.abc import Sequence

import flax.linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lora_jax import provenance
from lora_jax.data import tasks
from lora_jax.train import job
from lora_jax.tree import Params


class Source:
  """Loads the jobs of a sweep's members; keeps every task, and the last base.

  What is kept is noted again (`provenance.Recording.replay`) for the next member that uses it.
  """

  def __init__(self) -> None:
    self._tasks: dict[str, tuple[tasks.Task, provenance.Recording]] = {}
    self._base: tuple[str, tuple[nn.Module, Params], provenance.Recording] | None = None

  def task(self, config: ConfigDict) -> tasks.Task:
    """The data of a run; without a limit no data depends on its seed.

    Raises:
      ValueError: as `job.load_task`.
    """
    seed = config.seed if config.data.limit else 0
    own, evals = config.get('own'), (config.eval.limit, config.eval.general_text)
    key = _key(config.task, config.data, own, evals, config.model.name, seed)
    if key not in self._tasks:
      with provenance.recording() as read:
        self._tasks[key] = job.load_task(config).with_evals_of(config.eval.limit), read
      self._tasks[key][0].warn_of_truncation(config.data.max_length)
    task, read = self._tasks[key]
    read.replay()
    return task

  def base(self, config: ConfigDict, devices: Mesh | None = None) -> tuple[nn.Module, Params]:
    """The model of a run with its parameters before adaptation; its seed draws the head.

    Raises:
      ValueError: as `job.load_base`.
    """
    task = self.task(config)
    key = _key(config.model, config.seed, task.kind, task.num_labels, task.label_names, devices)
    if self._base is None or self._base[0] != key:
      self._base = None  # Before the next one is loaded: memory is for one.
      with provenance.recording() as read, provenance.part('base'):
        self._base = key, job.load_base(config, task, devices), read
    _, base, read = self._base
    read.replay()
    return base

  def jobs(self, configs: Sequence[ConfigDict], devices: Mesh | None = None) -> list[job.Job]:
    """The jobs of a program's members; they share one frozen base and all that no seed changes.

    Args:
      configs: of each member; those of a seed best follow each other.
      devices: as for `job.load`.

    Raises:
      ValueError: as `job.load`.
    """
    works: list[job.Job] = []
    for config in configs:
      work = job.build(config, self.task(config), self.base(config, devices), devices)
      works.append(work._replace(frozen=works[0].frozen) if works else work)
    return works


def _key(*parts: object) -> str:
  plain = [json.loads(x.to_json_best_effort()) if isinstance(x, ConfigDict) else x for x in parts]
  return json.dumps(plain, sort_keys=True, default=str)
