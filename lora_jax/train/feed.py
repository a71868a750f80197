"""Batches made and sent to the devices by a thread, ahead of the step that takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Fed(NamedTuple):
  """Batches on the devices.

  Attributes:
    batches: arrays [K, rows, ...], of K updates; [K, lanes, rows, ...] where lanes have their own.
    steps: K.
    examples: number of examples in them.
    tokens: number of tokens, without padding.
    slots: number of tokens, with padding. These three are int, or int [lanes].
  """

  batches: dict[str, jax.Array]
  steps: int
  examples: Any
  tokens: Any
  slots: Any


def feed(
  batches: Iterable[Mapping[str, np.ndarray]], sharding: jax.sharding.Sharding, ahead: int = 2
) -> Iterator[Fed]:
  """Yields batches placed by `sharding`, at most `ahead` of them waiting.

  An error in making a batch is raised here, in the order of the batches. Closing the generator
  ends the thread.
  """
  waiting: queue.Queue[Any] = queue.Queue(maxsize=ahead)
  closed = threading.Event()

  def put(item: Any) -> bool:
    while not closed.is_set():
      try:
        waiting.put(item, timeout=0.1)
        return True
      except queue.Full:
        continue
    return False

  def run() -> None:
    try:
      for batch in batches:
        if not put(_place(batch, sharding)):
          return
      put(None)
    except Exception as error:
      put(error)

  threading.Thread(target=run, daemon=True, name='feed').start()
  try:
    while (item := waiting.get()) is not None:
      if isinstance(item, Exception):
        raise item
      yield item
  finally:
    closed.set()


def _place(batch: Mapping[str, np.ndarray], sharding: jax.sharding.Sharding) -> Fed:
  segments = batch['segment_ids']
  return Fed(
    {name: jax.device_put(array, sharding) for name, array in batch.items()},
    steps=segments.shape[0],
    examples=_sum(segments.max(-1, keepdims=True)),
    tokens=_sum(segments > 0),
    slots=_sum(np.ones_like(segments)),
  )


def _sum(counts: np.ndarray) -> Any:
  """The sum over [K, rows, L], or that of each lane over [K, lanes, rows, L]."""
  return counts.sum((0, 2, 3)) if counts.ndim == 4 else int(counts.sum())
