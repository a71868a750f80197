"""Batches made and sent to the devices by a thread, ahead of the step that takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from lora_jax.data.layout import ALL, HostShard
from lora_jax.train import mesh


def prefetch(
  batches: Iterable[Mapping[str, object]],
  sharding: jax.sharding.NamedSharding,
  host_shard: HostShard = ALL,
  ahead: int = 2,
) -> Generator[dict[str, jax.Array]]:
  """Yields batches placed by `sharding`, at most `ahead` of them waiting.

  An error in making a batch is raised here, in the order of the batches. Closing the generator
  ends the thread.

  Args:
    batches: arrays [K, rows, ...], of K updates; [K, members, rows, ...] where the members of a
      sweep have batches of their own.
      The rows are those of this process.
    sharding: of the rows of all processes.
    host_shard: which of them are this one's.
    ahead: number of batches.
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
        placed = {
          name: mesh.put_rows(np.asarray(x), sharding, host_shard) for name, x in batch.items()
        }
        if not put(placed):
          return
      put(None)
    except Exception as error:
      put(error)

  threading.Thread(target=run, daemon=True, name='prefetch').start()
  try:
    while (item := waiting.get()) is not None:
      if isinstance(item, Exception):
        raise item
      yield item
  finally:
    closed.set()
