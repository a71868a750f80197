"""Seconds, FLOPs and bytes of train steps: of one run, and of the members of a sweep."""

from __future__ import annotations

import concurrent.futures
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from lora_jax import tree
from lora_jax.bench.timing import Measured, Rounds, Row, Rows, in_turn, seconds_of
from lora_jax.cost import program
from lora_jax.data import dataset, layout, packing, shapes, tasks
from lora_jax.sweep import members
from lora_jax.sweep import step as sweep_step
from lora_jax.train import job, mesh, optimizer, step

STEPS = 1000  # Of the schedule; none of the figures depends on it.
LAYOUTS = ('full', 'padded', 'packed')
# What JAX and XLA raise for a program that this machine cannot run, or that does not fit it.
REFUSALS = (ValueError, NotImplementedError, RuntimeError)
Batch = Mapping[str, Any]


class Program(NamedTuple):
  """A compiled train step, and the seconds until it was there."""

  compiled: jax.stages.Compiled
  tracing: float
  compiling: float


class Variant:
  """The train step of a run, ready to be timed on a batch."""

  def __init__(self, config: ConfigDict, task: tasks.Task):
    work = job.build(config, task)
    tx, _ = optimizer.make_optimizer(config.optim, STEPS, work.groups)
    self.model = work.model
    self.frozen = work.frozen
    self.state = step.init_state(work.trainable, tx, 0)
    self.step = step.make_train_step(work.apply, tx, task.kind, family=work.family)
    self.trained = work.summary.trainable
    self._programs: dict[tuple[int, ...], Program] = {}

  def arguments(self, batch: Batch) -> tuple[Any, ...]:
    """What the step takes after its state."""
    return self.frozen, batch

  def program(self, batch: Batch) -> Program:
    """The compiled step of batches of this shape; it is compiled once."""
    key = (*batch['input_ids'].shape, *batch['prediction_positions'].shape)
    if key not in self._programs:
      began = time.perf_counter()
      lowered = self.step.lower(self.state, *self.arguments(batch))
      traced = time.perf_counter()
      compiled = lowered.compile()
      self._programs[key] = Program(compiled, traced - began, time.perf_counter() - traced)
    return self._programs[key]

  def seconds(self, batch: Batch, dispatches: int = 1) -> float:
    """Wall seconds of one step, results waited for; the batch is put on the device before.

    Args:
      batch: K batches, as the step takes them: a dispatch makes K steps.
      dispatches: number of dispatches, one after the other.
    """
    compiled = self.program(batch).compiled
    placed = jax.block_until_ready(jax.device_put(self.arguments(batch)))

    def run() -> object:
      self.state, metrics = compiled(self.state, *placed)
      return self.state, metrics

    return seconds_of(run, dispatches) / len(batch['input_ids'])

  def size(self, batch: Batch) -> Row:
    """FLOPs and bytes of the compiled step, and of the frozen parameters."""
    compiled = self.program(batch).compiled
    size = {'flops': program.flops(compiled), 'peak_bytes': program.size(compiled).peak}
    return size | {'frozen_bytes': tree.nbytes(self.frozen)}


class Members(Variant):
  """The step of several runs in one program, on the same batch or each on its own."""

  def __init__(self, config: ConfigDict, task: tasks.Task, count: int, *, shared: bool):
    works = [job.build(config, task)] * count
    trainable = members.stack([work.trainable for work in works])
    self.per_member = members.per_member(works, [STEPS] * count)
    self.count, self.shared, self.model = count, shared, works[0].model
    self.frozen, self.trained = works[0].frozen, works[0].summary.trainable
    self.state = sweep_step.init_state(works[0], trainable, range(count), shared=shared)
    one_by_one = sweep_step.is_in_turn(mesh.make_mesh(1))
    self.step = sweep_step.make_train_step(works[0], shared=shared, in_turn=one_by_one)
    self._programs = {}

  def arguments(self, batch: Batch) -> tuple[Any, ...]:
    if not self.shared:
      batch = {name: np.repeat(x[:, None], self.count, 1) for name, x in batch.items()}
    return self.frozen, self.per_member, batch


Make = Callable[[tasks.Task], Variant]


class Case(NamedTuple):
  """A batch, and a task of such examples.

  Attributes:
    task: the task.
    batch: one batch of it, with a leading axis of 1.
  """

  task: tasks.Task
  batch: Batch

  def times(self, steps: int) -> Batch:
    """The batch for a dispatch of several steps."""
    return {name: np.repeat(x, steps, axis=0) for name, x in self.batch.items()}


def random_case(kind: str, vocabulary: int, rows: int, length: int, layout_name: str) -> Case:
  """Examples of random tokens, laid out as one batch.

  Args:
    kind: `classification`, or `lm` with a loss on every token of an example but its first.
    vocabulary: number of ids.
    rows, length: of the batch.
    layout_name: `full`, an example of `length` tokens in each row; `padded`, one of half to all of
      them; `packed`, three examples in each row, of a half and two quarters of it.
  """
  random = np.random.default_rng(0)
  if layout_name == 'packed':
    quarter = length // 4
    lengths = np.tile([length - 2 * quarter, quarter, quarter], rows)
  elif layout_name == 'padded':
    lengths = np.linspace(length // 2, length, rows).astype(int)
  else:
    lengths = np.full(rows, length)
  each = len(lengths) // rows
  ids = [random.integers(5, vocabulary, n).astype(np.int32) for n in lengths]
  if kind == 'lm':
    data = dataset.Dataset(ids, target_starts=np.ones(len(ids), np.int32))
    predictions = packing.round_up(length - 1, 8)
  else:
    zeros = [np.zeros_like(x) for x in ids]
    data = dataset.Dataset(ids, zeros, labels=np.arange(len(ids), dtype=np.int32) % 2)
    predictions = each
  task = tasks.Task('random', kind, 2 * (kind != 'lm'), data, {}, 'accuracy', True, None)
  places = np.repeat(np.arange(rows), each)
  shape = shapes.Shape(rows, length, predictions)
  batch = layout.Writer(data).write(shape, places, np.arange(len(ids)))
  return Case(task, {name: np.asarray(x)[None] for name, x in batch.items()})


def build(
  makers: Mapping[str, Make], case: Case, rounds: Rounds, jobs: int = 1
) -> tuple[dict[str, Variant], dict[str, str]]:
  """Makes and compiles variants; returns those that can run, and why others cannot, by name.

  Args:
    makers: a function of the task that makes each variant.
    case: the batch.
    rounds: the number of steps of a dispatch.
    jobs: number of variants that are compiled at the same time.
  """
  batch = case.times(rounds.steps_per_call)

  def make(name: str) -> Variant | str:
    try:
      variant = makers[name](case.task)
      variant.program(batch)
    except REFUSALS as error:
      return f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
    return variant

  with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    made = dict(zip(makers, pool.map(make, makers)))
  ready = {name: variant for name, variant in made.items() if isinstance(variant, Variant)}
  return ready, {name: reason for name, reason in made.items() if isinstance(reason, str)}


def times(variants: Mapping[str, Variant], case: Case, rounds: Rounds) -> dict[str, float]:
  """Seconds of a step of each variant, timed in turn."""
  batch = case.times(rounds.steps_per_call)
  timed = {
    name: functools.partial(variant.seconds, batch, rounds.dispatches)
    for name, variant in variants.items()
  }
  return in_turn(timed, rounds.count)


def compare(
  makers: Mapping[str, Make], case: Case, rounds: Rounds, note: str, jobs: int = 1
) -> Measured:
  """Seconds, FLOPs and bytes of the step of each, and their ratios to those of the last.

  Args:
    makers, case, rounds, jobs: as for `build`.
    note: what the comparison means.

  Raises:
    ValueError: if none of them can run.
  """
  variants, skipped = build(makers, case, rounds, jobs)
  if not variants:
    raise ValueError(f'no variant can run here: {skipped}')
  seconds = times(variants, case, rounds)
  batch = case.times(rounds.steps_per_call)
  found: Rows = {}
  for name, variant in variants.items():
    compiled = variant.program(batch)
    found[name] = {'seconds': seconds[name], **variant.size(batch), 'trained': variant.trained}
    if jobs == 1:  # Otherwise they wait for each other.
      found[name] |= {'tracing': compiled.tracing, 'compiling': compiled.compiling}
  return Measured(_with_ratios(found), f'{note} Seconds of a step are {rounds}.', skipped)


def _with_ratios(rows: Rows) -> Rows:
  base = rows[list(rows)[-1]]
  return {
    name: row | {f'{key}_ratio': row[key] / base[key] for key in ('seconds', 'flops', 'peak_bytes')}
    for name, row in rows.items()
  }
