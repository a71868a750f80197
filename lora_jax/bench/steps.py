"""Seconds, FLOPs and bytes of train steps: of one run, and of the members of a sweep."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lora_jax.bench.timing import Row, Rows, in_turn, seconds_of
from lora_jax.cost import program
from lora_jax.data import batches, dataset, tasks
from lora_jax.sweep import members
from lora_jax.sweep import step as sweep_step
from lora_jax.train import job, optimizer, step

STEPS = 1000  # Of the schedule; none of the figures depends on it.
Batch = Mapping[str, Any]


class Variant:
  """The train step of a run, ready to be timed on a batch."""

  def __init__(self, config: ConfigDict, task: tasks.Task):
    work = job.build(config, task)
    tx, _ = optimizer.make_optimizer(config.optim, STEPS)
    self.frozen = work.frozen
    self.state = step.init_state(work.trainable, tx, 0)
    self.step = step.make_train_step(work.apply, tx, task.kind, family=work.family)
    self.trained = work.summary.trainable

  def arguments(self, batch: Batch) -> tuple[Any, ...]:
    """What the step takes after its state."""
    return self.frozen, batch

  def seconds(self, batch: Batch) -> float:
    """Wall seconds of one step, results waited for."""
    arguments = self.arguments(batch)

    def run() -> object:
      self.state, metrics = self.step(self.state, *arguments)
      return self.state, metrics

    return seconds_of(run)

  def size(self, batch: Batch) -> Row:
    """FLOPs and bytes of the compiled step."""
    compiled = self.step.lower(self.state, *self.arguments(batch)).compile()
    return {'flops': program.flops(compiled), 'peak_bytes': program.size(compiled).peak}


class Members(Variant):
  """The step of several runs in one program, on the same batch or each on its own."""

  def __init__(self, config: ConfigDict, task: tasks.Task, count: int, *, shared: bool):
    works = [job.build(config, task)] * count
    trainable = members.stack([work.trainable for work in works])
    self.per_member = members.per_member(works, [STEPS] * count)
    self.count, self.shared = count, shared
    self.frozen, self.trained = works[0].frozen, works[0].summary.trainable
    self.state = sweep_step.init_state(works[0], trainable, range(count), shared=shared)
    self.step = sweep_step.make_train_step(works[0], shared=shared)

  def arguments(self, batch: Batch) -> tuple[Any, ...]:
    if not self.shared:
      batch = {name: np.repeat(x[:, None], self.count, 1) for name, x in batch.items()}
    return self.frozen, self.per_member, batch


def random_task(rows: int, length: int) -> tasks.Task:
  """Examples of one length each, so that a batch is `rows` full rows."""
  random = np.random.default_rng(0)
  ids = [random.integers(1000, 20000, length).astype(np.int32) for _ in range(rows)]
  zeros = [np.zeros(length, np.int32)] * rows
  data = dataset.Dataset(ids, zeros, labels=np.arange(rows, dtype=np.int32) % 2)
  return tasks.Task('random', 'classification', 2, data, {}, 'accuracy', True, None)


def compare(
  makers: Mapping[str, Callable[[tasks.Task], Variant]], rows: int, length: int, rounds: int
) -> Rows:
  """Seconds, FLOPs and bytes of the step of each, and their ratios to those of the last.

  Args:
    makers: a function of the task that makes each variant.
    rows, length: of the batch.
    rounds: timed rounds.
  """
  task = random_task(rows, length)
  training = batches.Batches(task.train, batch_size=rows, seed=0, layout='pad', max_length=length)
  (batch,) = training.epoch(0)
  variants = {name: make(task) for name, make in makers.items()}
  timed = {name: functools.partial(variant.seconds, batch) for name, variant in variants.items()}
  seconds = in_turn(timed, rounds)
  found = {
    name: {'seconds': seconds[name], **variant.size(batch), 'trained': variant.trained}
    for name, variant in variants.items()
  }
  base = found[list(found)[-1]]
  return {
    name: row | {f'{key}_ratio': row[key] / base[key] for key in ('seconds', 'flops', 'peak_bytes')}
    for name, row in found.items()
  }
