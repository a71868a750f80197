"""Writes checkpoints in the background, and says by name when one could not be written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from lora_jax.train import hosts, paths
from lora_jax.train.locks import Lost
from lora_jax.tree import Params

UNFINISHED = ocp.utils.TMP_DIR_SUFFIX  # In names of what is being written or removed.


class Saver:
  """Writes one checkpoint after the other.

  Args:
    folder: of the checkpoints.
    finish: called in a thread when a checkpoint is written.
  """

  def __init__(self, folder: Path, finish: Callable[[], None]):
    self._folder, self._finish = folder, finish
    self._step, self._bytes = 0, 0
    self._note: Callable[[Path], None] = lambda folder: None
    self._thread = ThreadPoolExecutor(1, 'checkpoints')
    self._pending: Future[None] | None = None
    self._orbax = ocp.AsyncCheckpointer(
      ocp.CompositeCheckpointHandler(
        trainable=ocp.StandardCheckpointHandler(), rest=ocp.StandardCheckpointHandler()
      ),
      # It is called when all is written, before the directory gets its name.
      async_options=ocp.options.AsyncOptions(post_finalization_callback=self._write_note),
    )

  def save(self, step: int, arrays: Mapping[str, Params], note: Callable[[Path], None]) -> None:
    """Begins to write a checkpoint, when the one before is written.

    Args:
      step: its number.
      arrays: its arrays by name.
      note: writes what is written last, given the directory; called by the first process alone.

    Raises:
      OSError: if this or the save before could not be written.
    """
    self.wait()
    self._step, self._note = step, note
    self._bytes = sum(x.nbytes for x in jax.tree.leaves(dict(arrays)))
    parts = {name: ocp.args.StandardSave(x) for name, x in arrays.items()}
    try:
      self._orbax.save(self._folder / str(step), args=ocp.args.Composite(**parts))
    except Exception as error:
      raise self._failure(error) from error
    self._pending = self._thread.submit(self._complete)

  def poll(self) -> None:
    """Raises an OSError if the save in the background has failed; waits for nothing."""
    if self._pending and self._pending.done():
      self.wait()

  def wait(self) -> None:
    """Waits until what was saved is on disk; raises as `poll`."""
    pending, self._pending = self._pending, None
    if pending:
      try:
        pending.result()
      except Exception as error:
        raise self._failure(error) from error

  def close(self) -> None:
    """As `wait`; nothing can be saved afterwards."""
    try:
      self.wait()
    finally:
      self._thread.shutdown()
      try:
        self._orbax.close()
      except Exception as error:  # Of what is written beside the arrays, in a thread of its own.
        raise self._failure(error) from error

  def _complete(self) -> None:
    self._orbax.wait_until_finished()
    self._finish()

  def _write_note(self) -> None:
    place = self._folder / str(self._step)
    if not paths.on_bucket(place):
      place = place.with_name(place.name + UNFINISHED)
    self._note(place)

  def _failure(self, error: Exception) -> Exception:
    """The error by name: Orbax and TensorStore raise various ones, of many lines."""
    if isinstance(error, Lost):
      return error
    space = ''
    if not paths.on_bucket(self._folder):
      free = shutil.disk_usage(self._folder).free
      space = f' Its arrays alone are {self._bytes} bytes; {free} bytes are free.'
    cause = next((line for line in str(error).splitlines() if line), type(error).__name__)
    if hosts.may_be_a_loss(error):
      return ConnectionError(
        f'the checkpoint of step {self._step} was not written to {self._folder}, because another '
        f'process was lost: {cause} The checkpoints before it are whole'
      )
    return OSError(
      f'the checkpoint of step {self._step} could not be written to {self._folder}: {cause}.{space}'
      ' The checkpoints before it are whole: when there is room, the same command resumes.'
    )
