"""The engine of one run: its state on a mesh, its checkpoints, its display."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import jax
import numpy as np

from lora_jax import provenance
from lora_jax.data import layout
from lora_jax.data.layout import Shape
from lora_jax.train import forgetting, hosts, locks, mesh, optimizer, rundir, setup, signals, step
from lora_jax.train.ahead import Ahead
from lora_jax.train.checkpoints import Checkpoints
from lora_jax.train.clock import Clock
from lora_jax.train.evaluate import HostBatch
from lora_jax.train.prefetch import prefetch
from lora_jax.train.record import Record
from lora_jax.train.writers import Writer
from lora_jax.tree import Params

LOOK_AHEAD = 512  # Dispatches whose programs are compiled before they are needed.


@contextlib.contextmanager
def open_run(record: Record, workdir: Path, read: provenance.Recording) -> Iterator[Single]:
  """The engine of a run in its directory, restored from the last checkpoint if there is one.

  The directory becomes the run's own when the block begins: by then a mistake in the config has
  shown itself.

  Args:
    record: the run.
    workdir: its directory.
    read: of all files that it is made from.

  Raises:
    ValueError: for settings that do not fit, a directory of another run or of other files, or one
      that another process trains in.
  """
  engine = Single(record, workdir)
  found = read.inputs()
  rundir.check_inputs(found)
  config = record.work.config
  with contextlib.ExitStack() as stack:
    owner = stack.enter_context(locks.hold(workdir))
    rundir.begin(workdir, config)
    record.inputs = rundir.keep_inputs(workdir, found)
    if hosts.is_first():
      rundir.keep_task(workdir, record.work.task)
    checkpoints = Checkpoints(workdir, config.checkpoint.keep, owner.check)
    stack.enter_context(contextlib.closing(checkpoints))
    if engine.restore(checkpoints) and hosts.is_first():
      print(f'resumed at step {engine.done} of {record.total_steps}', flush=True)
    writer = Writer(
      workdir,
      total_steps=record.total_steps,
      resume_step=engine.done,
      entries=record.entries,
      active=hosts.is_first(),
    )
    record.writer, engine.owner = stack.enter_context(writer), owner
    engine.clock.compiling = writer.compiling
    engine.interrupted = stack.enter_context(signals.stopping())
    engine.clock.start()
    stack.enter_context(contextlib.closing(engine.ahead))
    forgetting.measure_start(engine)
    yield engine


class Single:
  """One run on a mesh of devices; see `engine.Engine`. Open one with `open_run`."""

  def __init__(self, record: Record, workdir: Path):
    work, config = record.work, record.work.config
    devices = record.devices
    tx, _ = optimizer.make_optimizer(config.optim, record.total_steps, work.groups)
    program = setup.make_program(work, tx, devices)
    self.members = [record]
    self.tools = setup.make_tools(work, devices, record.training.steps_per_epoch)
    self.clock, self.ahead = Clock(), Ahead()
    self.done = 0
    self.interrupted = signals.Stop()
    self.owner = locks.Locks(workdir)
    self._record, self._workdir, self._devices = record, workdir, devices
    self._state = program.init(record.start)
    self._train_step = program.train_step
    self._eval_step = step.make_eval_step(
      work.apply, work.task.kind, mesh.replicated(devices), work.family
    )
    self._has_begun = False

  def restore(self, checkpoints: Checkpoints) -> bool:
    """Takes the last checkpoint's state and progress; returns whether there is one."""
    self._checkpoints = checkpoints
    restored = checkpoints.restore(self._state)
    if restored is None:
      return False
    self._state, progress = restored
    self._record.progress.update(progress)
    self.done = int(self._state.step)
    return True

  def batches(self) -> Iterator[step.Batch]:
    training = self._record.training
    upcoming = setup.upcoming(training, self.done, self._record.total_steps)
    return prefetch(upcoming, mesh.rows(self._devices), training.host_shard)

  def advance(self, batch: step.Batch) -> step.Metrics:
    arguments = self._state, self._record.work.frozen, batch
    with self.clock.compiling_if_new('training', batch):
      if not self._has_begun:
        self._begin(batch)
      program = self.ahead.get(self._train_step, *arguments)
    self._state, metrics = program(*arguments)
    self.done += self._record.training.updates(self.done)
    return metrics

  def outputs(self, batch: HostBatch) -> dict[str, jax.Array]:
    placed = mesh.put(dict(batch), mesh.evaluation_rows(self._devices))
    arguments = *self.parts(self._record), placed
    with self.clock.compiling_if_new('evaluation', batch):
      program = self.ahead.get(self._eval_step, *arguments)
    return program(*arguments)

  def _begin(self, batch: step.Batch) -> None:
    """Begins to compile what the run will need, in that order; `batch` is its first one."""
    self._has_begun = True
    frozen, trainable = self.parts(self._record)
    training, rows = self._record.training, mesh.evaluation_rows(self._devices)
    shapes = training.shapes(*divmod(self.done, training.steps_per_epoch))
    for shape in dict.fromkeys(itertools.islice(shapes, LOOK_AHEAD)):
      self.ahead.begin(self._train_step, self._state, frozen, like(batch, shape))
    for held_out in itertools.chain(*self.tools.held_out.values()):
      host = cast(Mapping[str, np.ndarray], held_out)
      arrays = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows) for name, x in host.items()
      }
      self.ahead.begin(self._eval_step, frozen, trainable, arrays)

  def parts(self, record: Record) -> tuple[Params, Params]:
    return record.work.frozen, self._state.trainable

  def check(self) -> None:
    self._checkpoints.poll()
    if self._record.error:
      self._checkpoints.wait()
      last = self._checkpoints.last_step()
      if hosts.is_first():
        self._record.fail(self._workdir)
      kept = f'The checkpoint of step {last} stays' if last is not None else 'No step was saved'
      raise FloatingPointError(f'{self._record.error} {kept} in {self._workdir}.')

  def keep_best(self, improved: Sequence[Record]) -> None:
    """Does nothing: the best checkpoint is kept by its score."""

  def show(self, due: Sequence[Record], examples: Sequence[list[dict[str, str]]]) -> None:
    self.owner.check()
    self._record.show(self.done, examples[0] if examples else [])

  def is_stopping(self, first: int) -> bool:
    return hosts.stopping(self.interrupted, first, self.done)

  def stopped(self) -> int:
    self._checkpoints.wait()
    return self.interrupted.saved(self.done, self._workdir)

  def save(self, *, evaluated: bool) -> None:
    if self.interrupted.is_set():
      self.interrupted.saving.set()
    self._record.charge(self.clock.split(), self.clock.programs())
    score = self._record.last_score if evaluated else None
    self._checkpoints.save(self._state, self._record.progress, score)

  def finish(self, record: Record) -> None:
    self._checkpoints.wait()
    generated = None
    if self.tools.texts and self.tools.final:
      best = self._checkpoints.restore_best(self._state.trainable)
      texts = functools.partial(self.tools.texts, record.work.frozen, best)
      with self.clock.measure('decoding'):
        generated = record.decode(texts, self.tools.final, self._workdir)
      self.check()
    record.charge(self.clock.split(), self.clock.programs())
    self.owner.check()
    record.end(self._workdir, generated)


def like(batch: step.Batch, shape: Shape) -> dict[str, jax.ShapeDtypeStruct]:
  """`batch`, [K, ...], with rows and columns of another shape; as shapes alone."""
  columns = {
    name: shape.num_predictions if name in layout.BY_PREDICTION else shape.length for name in batch
  }
  return {
    name: jax.ShapeDtypeStruct((len(x), shape.rows, columns[name]), x.dtype, sharding=x.sharding)
    for name, x in batch.items()
  }
