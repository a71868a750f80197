"""Checkpoints of a run directory: the trainable side and the run's progress.

Orbax writes the arrays (`saver.py`). Beside them stands `step.json` (`step_files.py`), by which a
later start knows whether a checkpoint is whole.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from lora_jax import files
from lora_jax.train import hosts, paths, step_files
from lora_jax.train.saver import UNFINISHED, Saver
from lora_jax.train.step import TrainState
from lora_jax.train.step_files import Damaged, Step
from lora_jax.tree import Params

Tree = TypeVar('Tree')  # Nested arrays.
SET_ASIDE = '.set-aside'  # The end of the name of a checkpoint that a run did not resume from.


class Checkpoints:
  """The checkpoints of a run directory: the latest few, and the best one when each was saved.

  Each holds the state and, as JSON, the progress that the host keeps (history of evaluations, sums
  since the last). A checkpoint appears whole or not at all, so a killed process leaves none half
  written; one that is damaged later is known by the digests of its files. A run directory on a
  bucket (`gs://...`) works as a local one.

  Until something is saved or `restore`d nothing is changed, so that a run can be read while it
  trains.

  Args:
    workdir: the run directory.
    keep: number of the latest checkpoints to keep.
    check: called before anything is written and before it gets its name; it raises an error if the
      directory has become another process's.
  """

  def __init__(self, workdir: Path, keep: int = 2, check: Callable[[], None] = lambda: None):
    self.folder = workdir / 'checkpoints'
    self._keep, self._check = keep, check
    self._notes: dict[int, Step] = {}  # Of the checkpoints on the disk, when something was saved.
    self._saver: Saver | None = None
    _hide_orbax_chatter()

  def steps(self) -> list[int]:
    """The steps that have a checkpoint, damaged ones included."""
    if not self.folder.exists():
      return []
    found = [path for path in self.folder.iterdir() if path.name.isdecimal()]
    # On the disk a directory gets its name when it is whole; a bucket cannot rename one.
    if paths.on_bucket(self.folder):
      found = [path for path in found if (path / step_files.COMMITTED).exists()]
    return sorted(int(path.name) for path in found)

  def last_step(self) -> int | None:
    """The step of the latest checkpoint, or None if there is none."""
    return next(reversed(self.steps()), None)

  def best_step(self) -> int | None:
    """The step of the best evaluated checkpoint (of equals the earliest), or None.

    Raises:
      ValueError: if a checkpoint that may be the best is damaged or gone.
    """
    notes = {}
    for step in self.steps():
      try:
        notes[step] = step_files.read(self.folder / str(step))
      except Damaged as error:
        if (self.folder / str(step)).exists():  # Else the run that trains has just removed it.
          raise self._unusable(error) from error
    if not notes:
      return None
    best = notes[max(notes)].best
    if best is not None and best not in notes:
      raise self._unusable(f'{self.folder / str(best)}, the best checkpoint, is gone')
    return _best(notes)

  def save(
    self, state: TrainState, progress: Mapping[str, object], score: float | None = None
  ) -> None:
    """Saves in the background; `score` (higher is better) where the state was evaluated.

    `progress` is saved as it is now: the run may change it as soon as this returns.

    Raises:
      OSError: if this or the save before it could not be written.
    """
    arrays = {'trainable': state.trainable, 'rest': _rest(state)}
    self._save(int(state.step), arrays, progress, score)

  def save_trainable(
    self, step: int, trainable: Params, progress: Mapping[str, object], score: float
  ) -> None:
    """As `save`, of the trainable parameters alone: they can be evaluated, but not trained on."""
    self._save(step, {'trainable': trainable}, progress, score)

  def restore(self, like: TrainState) -> tuple[TrainState, Any] | None:
    """The (state, progress) to resume from, or None to train from the start.

    It is the latest checkpoint that is whole and whose best one is, which the end of the run needs:
    what comes after it is trained again. Later and damaged ones are set aside, with a warning.

    Args:
      like: gives shapes and shardings.

    Raises:
      ValueError: if none of the checkpoints is whole, and there are as many as are kept (of fewer
        the run starts again); if the chosen one is not of a run of this config.
    """
    self._tidy()
    problems: dict[int, Exception] = {}
    step, restored = self.step_to_resume(problems), None
    while step is not None and not (restored := self._restore(step, like, problems)):
      step = self.step_to_resume(problems)
    self._set_aside(step, problems)
    return restored

  def step_to_resume(self, problems: dict[int, Exception]) -> int | None:
    """The step that `restore` takes, or None; the same on all hosts.

    Args:
      problems: of steps that are damaged, which are passed over; those that are found are added.
    """
    found = -1
    if hosts.is_first():
      whole: dict[int, Step] = {}
      for step in reversed(self.steps()):
        note = self._verify(step, problems, whole)
        best = step if note is None or note.best is None else note.best
        if note and self._verify(best, problems, whole):
          found = step
          break
    found = hosts.agreed(found)
    return None if found < 0 else found

  def last_progress(self) -> files.Json | None:
    """The host's part of the checkpoint that `restore` takes, or None if there is none."""
    step = self.step_to_resume({})
    return None if step is None else step_files.read(self.folder / str(step)).progress

  def restore_trainable(self, step: int, like: Params | None = None) -> Params:
    """The trainable part at a step; without `like`, in the shapes that were saved.

    Raises:
      ValueError: if the checkpoint is damaged, naming the file.
    """
    try:
      step_files.verify(self.folder / str(step))
    except Damaged as error:
      raise self._unusable(error) from error
    if like is None:
      saved = ocp.StandardCheckpointHandler().metadata(
        epath.Path(self.folder / str(step) / 'trainable')
      )
      device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
      like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), saved.tree
      )
    return self._read(step, 'trainable', like)

  def restore_best(self, like: Params) -> Params:
    """The trainable part of the best evaluation; `like` gives shapes and shardings.

    Raises:
      ValueError: if no evaluated checkpoint is left, or the best one is damaged.
    """
    self.wait()
    step = self.best_step()
    if step is None:
      raise ValueError(
        f'{self.folder} has no checkpoint of an evaluation left. Restore its files, or train '
        'the run again in another --workdir.'
      )
    return self.restore_trainable(step, like)

  def poll(self) -> None:
    """Raises an OSError if a save in the background has failed; waits for nothing."""
    if self._saver:
      self._saver.poll()

  def wait(self) -> None:
    """Waits until what was saved is on disk; raises as `poll`."""
    if self._saver:
      self._saver.wait()

  def close(self) -> None:
    """As `wait`; nothing can be saved afterwards."""
    if self._saver:
      self._saver.close()

  def _save(
    self,
    step: int,
    arrays: Mapping[str, Params],
    progress: Mapping[str, object],
    score: float | None,
  ) -> None:
    self.wait()
    self._check()
    if hosts.agreed(int((self.folder / str(step)).exists())):
      return
    if score is not None and not math.isfinite(score):
      logging.warning('the score of step %d is %s: it never counts as the best', step, score)
      score = None
    if self._saver is None:
      self._tidy()
      self._saver = Saver(self.folder, self._prune)
      self._notes = {step: step_files.read(self.folder / str(step)) for step in self.steps()}
    text = json.dumps(progress)
    note = Step({}, score, None, {})
    note = note._replace(best=_best({**self._notes, step: note}))
    self._notes[step] = note

    def write(folder: Path) -> None:
      step_files.write(folder, text, note.score, note.best)
      self._check()

    self._saver.save(step, arrays, write)

  def _verify(
    self, step: int, problems: dict[int, Exception], whole: dict[int, Step]
  ) -> Step | None:
    """The host's part of a checkpoint that is whole; of a damaged one None, and a problem more."""
    if step not in whole and step not in problems:
      try:
        whole[step] = step_files.verify(self.folder / str(step))
      except Damaged as error:
        problems[step] = error
    return whole.get(step)

  def _restore(
    self, step: int, like: TrainState, problems: dict[int, Exception]
  ) -> tuple[TrainState, Any] | None:
    """The (state, progress) of a step; None, and a problem more, if it is old and damaged."""
    note = step_files.read(self.folder / str(step))
    try:
      trainable = self._read(step, 'trainable', like.trainable)
      rest = self._read(step, 'rest', _rest(like))
    except ValueError as error:
      if note.digests is not None:  # It is what was written, so an earlier one is no better.
        raise
      problems[step] = error
      return None
    if note.digests is None:
      logging.warning(
        '%s was written by an older version, without digests: it cannot be verified',
        self.folder / str(step),
      )
    return TrainState(rest['step'], trainable, rest['opt_state'], rest['key']), note.progress

  def _read(self, step: int, name: str, like: Tree) -> Tree:
    folder = self.folder / str(step)
    try:
      args = ocp.args.StandardRestore(_abstract(like))
      return ocp.StandardCheckpointHandler().restore(epath.Path(folder / name), args=args)
    except (ValueError, KeyError, OSError, TypeError) as error:
      raise ValueError(f'{folder} cannot be read as a checkpoint of this run: {error}') from error

  def _unusable(self, what: Exception | str) -> ValueError:
    return ValueError(
      f'{what}. Remove result.json, if there is one, and start the training again with the same '
      'command: it resumes from what is whole.'
    )

  def _set_aside(self, step: int | None, problems: Mapping[int, Exception]) -> None:
    """Renames the damaged checkpoints and those after `step`, which are trained again."""
    if hosts.is_first():
      found = self.steps()
      causes = '; '.join(str(problems[step]).splitlines()[0] for step in sorted(problems))
      # With fewer than are kept none was ever removed: training again from the start loses little.
      is_young = len(found) + len(self._aside()) < self._keep
      if found and step is None and not set(found) - set(problems) and not is_young:
        raise ValueError(
          f'{self.folder} has no whole checkpoint: {causes}. Restore its files, or remove the '
          'folder: the same command then trains from the start.'
        )
      aside = [one for one in found if one in problems or step is None or one > step]
      if causes:
        logging.warning(
          '%s. Training resumes from %s; set aside as STEP%s: the checkpoints of steps %s',
          causes,
          'the start' if step is None else f'step {step}',
          SET_ASIDE,
          ', '.join(map(str, aside)),
        )
      for one in aside:
        paths.rename(self.folder / str(one), self.folder / f'{one}{SET_ASIDE}')
    hosts.wait('set aside')

  def _aside(self) -> list[Path]:
    """The checkpoints that were set aside."""
    found = self.folder.iterdir() if self.folder.exists() else ()
    return [path for path in found if path.name.endswith(SET_ASIDE)]

  def _prune(self) -> None:
    """Removes the checkpoints that nobody needs; called in a thread, after each save."""
    if not hosts.is_first():
      return
    latest = sorted(self._notes)[-self._keep :]
    needed = {*latest, *(self._notes[step].best for step in latest)}
    for step in [step for step in self._notes if step not in needed]:
      folder = self.folder / str(step)
      # A killed process shall not leave a part of it under its name.
      if paths.on_bucket(folder):
        (folder / step_files.COMMITTED).unlink(missing_ok=True)
        paths.remove(folder)
      else:
        paths.remove(paths.rename(folder, folder.with_name(folder.name + UNFINISHED)))
      del self._notes[step]

  def _tidy(self) -> None:
    """Removes what killed processes left of checkpoints that they wrote or removed."""
    if hosts.is_first() and self.folder.exists():
      whole = {str(step) for step in self.steps()}
      for path in self.folder.iterdir():
        if UNFINISHED in path.name or (path.name.isdecimal() and path.name not in whole):
          paths.remove(path)
    hosts.wait('tidied')


def _best(notes: Mapping[int, Step]) -> int | None:
  """The step of the best score; of equals the earliest, as in the history."""
  scores = {step: note.score for step, note in notes.items() if note.score is not None}
  return max(scores, key=lambda step: (scores[step], -step), default=None)


def _hide_orbax_chatter() -> None:
  """Drops Orbax's records: it logs each phase of a save, and traces of errors that it raises too.

  A second call changes nothing.
  """
  logging.getLogger('absl').addFilter(_is_for_readers)


def _is_for_readers(record: logging.LogRecord) -> bool:
  return 'orbax' not in record.pathname


def _rest(state: TrainState) -> files.Json:
  return {'step': state.step, 'opt_state': state.opt_state, 'key': state.key}


def _abstract(arrays: Tree) -> Tree:
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, 'sharding', None)), arrays
  )
