"""The engine of a sweep's group: the stacked states of its members, and their run directories."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from lora_jax import provenance, tree
from lora_jax.sweep import choice, members, step
from lora_jax.sweep.grouping import Member
from lora_jax.sweep.source import Source
from lora_jax.train import (
  display,
  forgetting,
  mesh,
  optimizer,
  partial_texts,
  paths,
  result,
  rundir,
  setup,
  signals,
  writers,
)
from lora_jax.train.checkpoints import Checkpoints
from lora_jax.train.clock import Clock
from lora_jax.train.display import Display
from lora_jax.train.evaluate import HostBatch
from lora_jax.train.locks import Locks
from lora_jax.train.loop import fit
from lora_jax.train.prefetch import prefetch
from lora_jax.train.record import Record
from lora_jax.train.step import Batch, Metrics, TrainState, init_state
from lora_jax.tree import Params

FOLDER = 'groups'  # Of a sweep: the stacked states of groups that are not finished.


def train(group: choice.Group, source: Source, workdir: Path, folder: Path, owner: Locks) -> None:
  """Trains the members of a group to their ends, into `workdir / member.name`.

  Args:
    group: members that can share a program, and why they do.
    source: of their data and base.
    workdir: the sweep's folder.
    folder: of this group; it holds the stacked state. Training resumes from it if it has one.
    owner: the locks on the members.

  Raises:
    ValueError: as `loop.train`.
    OSError: if something cannot be written, or another machine has taken the members over.
    SystemExit: as `loop.train`.
  """
  code = result.commit()
  chosen: Sequence[Member] = group.members
  saved = None
  if folder.exists():
    with contextlib.closing(Checkpoints(folder)) as earlier:
      saved = earlier.last_progress()
  if saved:  # The members that it began with: they gave the stacked arrays their shapes.
    chosen = [member for member in chosen if member.name in saved['runs']]
  devices = mesh.make_mesh(**chosen[0].config.mesh)
  with contextlib.ExitStack() as stack:
    read = stack.enter_context(provenance.recording())
    works = source.jobs([member.config for member in chosen], devices)
    by_seed = {work.config.seed: setup.make_batches(work, devices) for work in works}
    records = [
      Record(member.name, work, by_seed[work.config.seed], devices, code)
      for member, work in zip(chosen, works)
    ]
    for record in records:
      record.is_live = not rundir.if_whole(rundir.read_outcome, workdir / record.name)
    checkpoints = Checkpoints(folder, works[0].config.checkpoint.keep, owner.check)
    stack.enter_context(contextlib.closing(checkpoints))
    engine = Stacked(records, workdir, checkpoints, owner, group.why)
    inputs = rundir.keep_inputs(folder, read.inputs())
    for record in records:
      record.inputs = inputs
    if saved:
      engine.restore(saved)
      print(f'resumed at step {engine.done} of {len(records)} runs', flush=True)
    shown = Display(max(record.total_steps for record in records), engine.done)
    engine.display = stack.enter_context(contextlib.closing(shown))
    engine.clock.compiling = shown.compiling
    with signals.stopping() as interrupted:
      engine.interrupted = interrupted
      engine.clock.start()
      forgetting.measure_start(engine)
      fit(engine)


class Stacked:
  """Several runs as one program over one frozen base; see `engine.Engine`.

  `members` are the records of the stacked states. They are fewer than all when some have ended:
  the width is halved while the live ones fit into half of it, since each width is a compilation;
  what room is left is filled with ended ones, whose state is no longer looked at.
  """

  def __init__(
    self,
    records: Sequence[Record],
    workdir: Path,
    checkpoints: Checkpoints,
    owner: Locks,
    why: str,
  ):
    work = records[0].work
    seeds = [record.work.config.seed for record in records]
    self.members = list(records)
    self.devices = records[0].devices
    self.tools = setup.make_tools(work, self.devices, records[0].training.steps_per_epoch)
    self.clock = Clock()
    self.done = 0
    self.interrupted = signals.Stop()
    self.display: Display | None = None
    self._records, self._workdir, self._owner = list(records), workdir, owner
    self._checkpoints, self._why = checkpoints, why
    self._frozen = work.frozen
    self._shared = len(set(seeds)) == 1
    works = [record.work for record in records]
    self._every = members.per_member(works, [record.total_steps for record in records])
    trainable = members.stack([record.start for record in records])
    self._state = step.init_state(work, trainable, seeds, shared=self._shared)
    self._best = jax.tree.map(jnp.array, trainable)
    in_turn = step.is_in_turn(self.devices)
    self._train_step = step.make_train_step(work, shared=self._shared, in_turn=in_turn)
    self._eval_step = step.make_eval_step(work, in_turn=in_turn)
    self._keep(range(len(records)))

  def restore(self, saved: Mapping[str, Any]) -> None:
    """Takes the last checkpoint of the group; `saved` is its progress."""
    by_name = {record.name: record for record in self._records}
    self._keep([self._records.index(by_name[name]) for name in saved['members']])
    restored = self._checkpoints.restore(self._with_best())
    if restored is None:
      raise ValueError(
        f'{self._checkpoints.folder} has no checkpoint left. Delete the folder of this group: its '
        'members then start again.'
      )
    state, _ = restored
    now, self._best = state.trainable['now'], state.trainable['best']
    self._state = state._replace(trainable=now)
    for name, progress in saved['runs'].items():
      by_name[name].progress.update(progress)
      by_name[name].error = saved['errors'][name]
    self.done = int(self._state.step)

  def batches(self) -> Iterator[Batch]:
    while live := [record for record in self.members if record.is_live]:
      self._keep(self._narrowed())
      until = max(record.total_steps for record in live)
      with contextlib.closing(self._stream(until)) as stream:
        for batch in stream:
          yield batch
          if len(self._narrowed()) < len(self.members):
            break

  def advance(self, batch: Batch) -> Metrics:
    with self.clock.compiling_if_new(f'training of {len(self.members)}', batch):
      self._state, metrics = self._train_step(self._state, self._frozen, self._per_member, batch)
    self.done += self.members[0].training.updates(self.done)
    return metrics

  def outputs(self, batch: HostBatch) -> dict[str, jax.Array]:
    width = len(self.members)
    with self.clock.compiling_if_new(f'evaluation of {width}', batch):
      rows = mesh.evaluation_rows(self.devices)
      placed = jax.device_put(dict(batch), self._unless_split(rows))
      return self._eval_step(self._frozen, self._per_member, self._state.trainable, placed)

  def parts(self, record: Record) -> tuple[Params, Params]:
    return self._parts(record, self._state.trainable)

  def check(self) -> None:
    """Raises an OSError if a checkpoint could not be written; a diverged member ends by itself."""
    self._checkpoints.poll()
    losses = [record.loss for record in self.members if math.isfinite(record.loss)]
    if self.display and losses:
      examples = sum(record.progress['examples'] for record in self._records)
      self.display.progress(self.done, sum(losses) / len(losses), examples)

  def keep_best(self, improved: Sequence[Record]) -> None:
    which = np.array([record in improved for record in self.members])
    self._best = members.select(which, self._state.trainable, self._best)

  def show(self, due: Sequence[Record], examples: Sequence[list[dict[str, str]]]) -> None:
    """Displays a line: the range of the metric over the runs, the best one, those that diverged."""
    shown = [f'{record.name} diverged: {record.error}' for record in due if record.error]
    if good := [record for record in due if not record.error]:
      name = good[0].metric
      values = [record.history[-1][name] for record in good]
      best = max(good, key=lambda record: record.score(record.best or record.history[-1]))
      value = display.number((best.best or best.history[-1])[name])
      shown.append(f'{name} {display.number(min(values))} to {display.number(max(values))}')
      shown.append(f'best so far of these {value}, {best.name}')
    if self.display:
      self.display.show(self.done, ', '.join([f'{len(due)} runs', *shown]))

  def is_stopping(self, first: int) -> bool:
    return self.interrupted.is_set()

  def stopped(self) -> int:
    self._checkpoints.wait()
    return self.interrupted.saved(self.done, self._checkpoints.folder.parent)

  def save(self, *, evaluated: bool) -> None:
    """Saves the stacked state and all records."""
    if self.interrupted.is_set():
      self.interrupted.saving.set()
    live = [record for record in self._records if record.is_live]
    seconds, programs = self.clock.split(), self.clock.programs()
    for record in live:
      record.charge({name: value / len(live) for name, value in seconds.items()}, programs)
    progress = {
      'members': [record.name for record in self.members],
      'runs': {record.name: record.progress for record in self._records},
      'errors': {record.name: record.error for record in self._records},
    }
    self._checkpoints.save(self._with_best(), progress)

  def finish(self, record: Record) -> None:
    """Writes the run directory of a run that is over, as a single run leaves it."""
    self._checkpoints.wait()
    self._owner.check()
    folder, work = self._workdir / record.name, record.work
    place = self.members.index(record)
    make_anew(folder)
    writers.write_json(folder / 'config.json', json.loads(work.config.to_json_best_effort()))
    writers.write_json(folder / provenance.FILE, record.inputs)
    rundir.keep_task(folder, work.task)
    self._save_member(record, folder, place)
    with writers.Writer(
      folder, total_steps=record.total_steps, stream=io.StringIO()
    ) as record.writer:
      for entry in record.entries:
        record.writer.write_point(entry)
      generated = None
      if not record.error and self.tools.texts and self.tools.final:
        texts = functools.partial(self.tools.texts, *self._parts(record, self._best))
        with self.clock.measure('decoding'):
          generated = record.decode(texts, self.tools.final, folder)
      if record.error:
        record.fail(folder)
        return
      record.charge(self.clock.split(), self.clock.programs())
      self._owner.check()
      record.end(folder, generated, len(self._records), self._why)

  def _parts(self, record: Record, stacked: Params) -> tuple[Params, Params]:
    """A member's frozen part, with the scales of its factors, and its own of stacked parameters."""
    place = self.members.index(record)
    scales = members.take(self._per_member.scales, place)
    return tree.join(self._frozen, scales), members.take(stacked, place)

  def _save_member(self, record: Record, folder: Path, place: int) -> None:
    """Saves the trainable parameters of the best evaluation, and the whole state of the end."""
    entry, work = record.best, record.work
    if entry is None:
      return
    best_step, keep = int(entry['step']), work.config.checkpoint.keep
    with contextlib.closing(Checkpoints(folder, keep)) as checkpoints:
      if record.error or best_step < self.done:
        best = members.resize(members.take(self._best, place), work.trainable)
        checkpoints.save_trainable(best_step, best, record.progress, record.score(entry))
      if not record.error:
        tx, _ = optimizer.make_optimizer(work.config.optim, record.total_steps, work.groups)
        like = init_state(work.trainable, tx, work.config.seed)
        own = members.take_state(self._state, place, one_key=self._shared)
        checkpoints.save(members.resize(own, like), record.progress, record.last_score)

  def _with_best(self) -> TrainState:
    """The stacked state, with the parameters of each member's best evaluation."""
    return self._state._replace(trainable={'now': self._state.trainable, 'best': self._best})

  def _narrowed(self) -> list[int]:
    """The places of the members to train on with: the live ones, and ended ones to fill up."""
    live = [place for place, record in enumerate(self.members) if record.is_live]
    width = choice.narrowed(len(self.members), len(live))
    rest = [place for place in range(len(self.members)) if place not in live]
    return sorted([*live, *rest[: width - len(live)]])

  def _keep(self, places: Sequence[int]) -> None:
    """Keeps the members at these places, and splits them over the devices."""
    self.members = [self.members[place] for place in places]
    state = members.take_state(self._state, places, one_key=self._shared)
    best = members.take(self._best, places)
    every = members.take(self._every, [self._records.index(record) for record in self.members])
    split, whole = mesh.members(self.devices, len(places)), mesh.replicated(self.devices)
    where = members.shardings(state, split, whole, one_key=self._shared)
    self._state = jax.device_put(state, where)
    self._best = jax.device_put(best, split)
    self._per_member = jax.device_put(every, split)

  def _stream(self, until: int) -> Generator[dict[str, jax.Array]]:
    """Batches on the devices: those of all members, or each member's own."""
    if self._shared:
      upcoming = setup.upcoming(self.members[0].training, self.done, until)
      return prefetch(upcoming, self._unless_split(mesh.rows(self.devices)))
    upcoming = own_batches(self.members, self.done, until)
    return prefetch(upcoming, mesh.members(self.devices, len(self.members), axis=1))

  def _unless_split(self, rows: NamedSharding) -> NamedSharding:
    """Where a common batch lies: by rows, but whole where the members are split over devices."""
    are_split = len(self.members) % self.devices.size == 0
    return mesh.replicated(self.devices) if are_split else rows


def make_anew(folder: Path) -> None:
  """Makes a run directory without what a killed process had begun of it, but for decoded texts.

  Those that are of other parameters are not read (`PartialTexts`).
  """
  folder.mkdir(parents=True, exist_ok=True)
  for path in folder.iterdir():
    if not path.name.endswith(partial_texts.END):
      paths.remove(path)


def own_batches(
  records: Sequence[Record], done: int, until: int
) -> Iterator[dict[str, np.ndarray]]:
  """As `setup.upcoming`, for members that have their own batches: [K, members, rows, ...].

  Batches of one step are padded to one shape with rows, columns and positions that hold nothing.
  """
  seeds = [record.work.config.seed for record in records]
  trainings = dict(zip(seeds, (record.training for record in records)))
  streams = [setup.upcoming(training, done, until) for training in trainings.values()]
  for parts in zip(*streams, strict=True):
    part = dict(zip(trainings, parts))
    yield {name: stack_batches([part[seed][name] for seed in seeds], name) for name in parts[0]}


def stack_batches(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
  """One array of the members' batches, [K, members, ...]: each [K, ...], padded to one shape."""
  shape = np.max([x.shape for x in arrays], axis=0)
  fill = -1 if name == 'index' else 0
  pad = lambda x: np.pad(
    x, [(0, most - size) for most, size in zip(shape, x.shape)], constant_values=fill
  )
  return np.stack([pad(x) for x in arrays], axis=1)
