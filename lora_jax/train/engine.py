"""What the training loop advances: the state of one run, or the stacked states of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import jax

from lora_jax.train import setup
from lora_jax.train.clock import Clock
from lora_jax.train.evaluate import HostBatch
from lora_jax.train.record import Record
from lora_jax.train.step import Batch, Metrics
from lora_jax.tree import Params


class Engine(Protocol):
  """What advances: one state, or W stacked ones.

  Attributes:
    members: the record of each state, W of them, in the order of the states.
    tools: what evaluations need.
    clock: counts the seconds of the program.
    done: number of updates made.
  """

  @property
  def members(self) -> Sequence[Record]: ...

  tools: setup.Tools
  clock: Clock
  done: int

  def batches(self) -> Iterator[Batch]:
    """Batches on the devices, [K, ...], from the step `done` on, while any is live."""

  def advance(self, batch: Batch) -> Metrics:
    """Dispatches the updates of a batch and raises `done` by their number, K at most.

    The metrics, [K] or [K, W], are not waited for; those of an empty batch stand last.
    """

  def outputs(self, batch: HostBatch) -> dict[str, jax.Array]:
    """Dispatches the outputs for a held-out batch, [R, E] or [W, R, E]."""

  def parts(self, record: Record) -> tuple[Params, Params]:
    """A member's frozen and trainable part."""

  def check(self) -> None:
    """Raises an error if the run cannot go on; called after each dispatch.

    Raises:
      FloatingPointError: if a member that diverged ends them all.
      OSError: if a checkpoint could not be written in the background.
    """

  def keep_best(self, improved: Sequence[Record]) -> None:
    """Keeps the parameters of members whose last evaluation is their best."""

  def show(self, due: Sequence[Record], examples: Sequence[list[dict[str, str]]]) -> None:
    """Displays the last evaluations and examples of decoded texts."""

  def is_stopping(self, first: int) -> bool:
    """Whether to save and end after the updates in (first, done]."""

  def stopped(self) -> int:
    """Waits until the state is saved, says so, and returns the status to exit with."""

  def save(self, *, evaluated: bool) -> None:
    """Saves the state and the records, right after an evaluation or between two."""

  def finish(self, record: Record) -> None:
    """Writes what a record that is over leaves, and ends it."""
