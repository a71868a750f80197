"""The engine of one run: its state on a mesh, its checkpoints, its display."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from lora_jax.train import hosts, mesh, optimizer, rundir, setup, step
from lora_jax.train.checkpoints import Checkpoints
from lora_jax.train.clock import Clock
from lora_jax.train.evaluate import HostBatch
from lora_jax.train.prefetch import prefetch
from lora_jax.train.record import Record
from lora_jax.train.writers import Writer
from lora_jax.tree import Params


@contextlib.contextmanager
def open_run(record: Record, workdir: Path) -> Iterator[Single]:
  """The engine of a run in its directory, restored from the last checkpoint if there is one.

  The directory becomes the run's own when the block begins: by then a mistake in the config has
  shown itself.

  Raises:
    ValueError: for settings that do not fit, or a directory of another run.
  """
  engine = Single(record, workdir)
  config = record.work.config
  rundir.begin(workdir, config)
  with contextlib.closing(Checkpoints(workdir, config.checkpoint.keep)) as checkpoints:
    resumed = engine.restore(checkpoints)
    writer = Writer(
      workdir,
      total_steps=record.total_steps,
      resume_step=engine.done if resumed else None,
      active=hosts.is_first(),
    )
    with writer, rundir.interruption() as interrupted:
      record.writer, engine.interrupted = writer, interrupted
      engine.clock.start()
      yield engine


class Single:
  """One run on a mesh of devices; see `engine.Engine`. Open one with `open_run`."""

  def __init__(self, record: Record, workdir: Path):
    work, config = record.work, record.work.config
    devices = record.devices
    tx, _ = optimizer.make_optimizer(config.optim, record.total_steps)
    program = setup.make_program(work, tx, devices)
    self.members = [record]
    self.tools = setup.make_tools(work, devices, record.training.steps_per_epoch)
    self.clock = Clock()
    self.done = 0
    self.interrupted = threading.Event()
    self._record, self._workdir, self._devices = record, workdir, devices
    self._state = program.init(record.start)
    self._train_step = program.train_step
    self._eval_step = step.make_eval_step(work.apply, work.task.kind, mesh.replicated(devices))

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
    with self.clock.compiling_if_new('training', batch):
      self._state, metrics = self._train_step(self._state, self._record.work.frozen, batch)
    self.done += len(batch['input_ids'])
    return metrics

  def outputs(self, batch: HostBatch) -> dict[str, jax.Array]:
    with self.clock.compiling_if_new('evaluation', batch):
      placed = mesh.put(dict(batch), mesh.evaluation_rows(self._devices))
      return self._eval_step(*self.parts(self._record), placed)

  def parts(self, record: Record) -> tuple[Params, Params]:
    return record.work.frozen, self._state.trainable

  def check(self) -> None:
    if self._record.error:
      last = self._checkpoints.last_step()
      kept = f'The checkpoint of step {last} stays' if last is not None else 'No step was saved'
      raise FloatingPointError(f'{self._record.error} {kept} in {self._workdir}.')

  def keep_best(self, improved: Sequence[Record]) -> None:
    """Does nothing: the best checkpoint is kept by its score."""

  def show(self, due: Sequence[Record], examples: Sequence[list[dict[str, str]]]) -> None:
    self._record.show(self.done, examples[0] if examples else [])

  def is_stopping(self, first: int) -> bool:
    return hosts.stopping(self.interrupted, first, self.done)

  def save(self, *, evaluated: bool) -> None:
    self._record.charge(self.clock.split(), self.clock.programs())
    score = self._record.last_score if evaluated else None
    self._checkpoints.save(self._state, self._record.progress, score)

  def finish(self, record: Record) -> None:
    generated = None
    if self.tools.texts and self.tools.final:
      best = self._checkpoints.restore_best(self._state.trainable)
      texts = functools.partial(self.tools.texts, record.work.frozen, best)
      with self.clock.measure('decoding'):
        generated = record.decode(texts, self.tools.final, self._workdir)
    record.charge(self.clock.split(), self.clock.programs())
    record.end(self._workdir, generated)
