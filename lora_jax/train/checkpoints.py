"""Checkpoints of a run directory, written by Orbax: the trainable side and the run's progress."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from lora_jax.train.step import TrainState
from lora_jax.tree import Params

Tree = TypeVar('Tree')  # Nested arrays.


class Checkpoints:
  """The checkpoints of a run directory: the latest few, and the best.

  Each holds the state and, as JSON, the progress that the host keeps (history of evaluations, sums
  since the last). A checkpoint appears whole or not at all, so a killed process leaves none half
  written. A run directory on a bucket (`gs://...`) works as a local one.
  """

  def __init__(self, workdir: Path, keep: int = 2):
    # Of equal scores the earliest counts as best, as in the history.
    rank: Callable[[Any], Any] = lambda metrics: (metrics['score'], -metrics['step'])
    best = checkpoint_managers.preservation_policy.BestN(
      get_metric_fn=rank,
      n=1,
      keep_checkpoints_without_metrics=False,
    )
    latest = checkpoint_managers.preservation_policy.LatestN(keep)
    self.folder = workdir / 'checkpoints'
    _hide_orbax_chatter()
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        best_fn=rank,  # Without it no metrics are written, nor read by a later start.
        preservation_policy=checkpoint_managers.AnyPreservationPolicy([latest, best]),
        cleanup_tmp_directories=True,
      ),
      item_handlers={
        'trainable': ocp.StandardCheckpointHandler(),
        'rest': ocp.StandardCheckpointHandler(),
        'progress': ocp.JsonCheckpointHandler(),
      },
    )

  def last_step(self) -> int | None:
    """The step of the latest checkpoint, or None if there is none."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """The step of the best evaluated checkpoint (of equals the earliest), or None."""
    return self._manager.best_step()

  def save(
    self, state: TrainState, progress: Mapping[str, object], score: float | None = None
  ) -> None:
    """Saves in the background; `score` (higher is better) where the state was evaluated.

    `progress` is saved as it is now: the run may change it as soon as this returns.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    metrics = None if score is None else {'score': score, 'step': step}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        trainable=ocp.args.StandardSave(state.trainable),
        rest=ocp.args.StandardSave(_rest(state)),
        progress=_as_it_is(progress),
      ),
      metrics=metrics,
    )

  def restore(self, like: TrainState) -> tuple[TrainState, Any] | None:
    """The latest (state, progress), or None if there is none. `like` gives shapes and shardings."""
    step = self._manager.latest_step()
    if step is None:
      return None
    saved = self._read(
      step,
      trainable=ocp.args.StandardRestore(_abstract(like.trainable)),
      rest=ocp.args.StandardRestore(_abstract(_rest(like))),
      progress=ocp.args.JsonRestore(),
    )
    rest = saved['rest']
    return TrainState(rest['step'], saved['trainable'], rest['opt_state'], rest['key']), saved[
      'progress'
    ]

  def save_trainable(
    self, step: int, trainable: Params, progress: Mapping[str, object], score: float
  ) -> None:
    """As `save`, of the trainable parameters alone: they can be evaluated, but not trained on."""
    if step in self._manager.all_steps():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        trainable=ocp.args.StandardSave(trainable), progress=_as_it_is(progress)
      ),
      metrics={'score': score, 'step': step},
    )

  def last_progress(self) -> dict[str, Any] | None:
    """The host's part of the latest checkpoint, or None if there is none."""
    step = self._manager.latest_step()
    return None if step is None else self._read(step, progress=ocp.args.JsonRestore())['progress']

  def restore_trainable(self, step: int, like: Params | None = None) -> Params:
    """The trainable part at a step; without `like`, in the shapes that were saved."""
    if like is None:
      saved = self._manager.item_metadata(step)['trainable']
      device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
      like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), saved)
    return self._read(step, trainable=ocp.args.StandardRestore(_abstract(like)))['trainable']

  def restore_best(self, like: Params) -> Params:
    """The trainable part of the best evaluation; `like` gives shapes and shardings.

    Raises:
      ValueError: if no evaluated checkpoint is left.
    """
    step = self.best_step()
    if step is None:
      raise ValueError(
        f'{self.folder} has no checkpoint of an evaluation left. Restore its files, or train '
        'the run again in another --workdir.'
      )
    return self.restore_trainable(step, like)

  def close(self) -> None:
    """Waits until what was saved is on disk."""
    self._manager.wait_until_finished()
    self._manager.close()

  def _read(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**items))
    except (ValueError, KeyError, OSError, TypeError) as error:
      raise ValueError(
        f'{self.folder / str(step)} cannot be read as a checkpoint of this run: {error}\n'
        'If the folder is damaged, delete it: the run resumes from the checkpoint before it.'
      ) from error


def _as_it_is(progress: Mapping[str, object]) -> ocp.args.JsonSave:
  """A copy to save: Orbax writes JSON in a thread, when the run has gone on and changed it."""
  return ocp.args.JsonSave(copy.deepcopy(dict(progress)))


def _hide_orbax_chatter() -> None:
  """Keeps only Orbax's errors: it logs each phase of each save. A second call changes nothing."""
  logging.getLogger('absl').addFilter(_is_for_readers)


def _is_for_readers(record: logging.LogRecord) -> bool:
  return 'orbax' not in record.pathname or record.levelno >= logging.ERROR


def _rest(state: TrainState) -> dict[str, object]:
  return {'step': state.step, 'opt_state': state.opt_state, 'key': state.key}


def _abstract(arrays: Tree) -> Tree:
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, 'sharding', None)), arrays
  )
