"""Programs compiled by threads, before the loop needs them and several at a time.

XLA compiles without Python's lock and on about one core, so that the programs of a run are done
sooner together than one after the other, and the first ones run meanwhile. On a GPU the host has
nothing else to do; on a CPU a program that is compiled takes cores from one that runs, but no more
than it would have taken before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from lora_jax.train.step import Jitted

Key = tuple[object, ...]


class Ahead:
  """The programs of a run, each compiled once.

  Several processes compile each program when it is needed, so that all do so in the same order.
  """

  def __init__(self, threads: int | None = None):
    """Compiles with this many threads, 0 for none; None is one for each core of this machine."""
    if threads is None:
      threads = 0 if jax.process_count() > 1 else os.cpu_count() or 1
    self._pool = ThreadPoolExecutor(threads, 'compile') if threads else None
    self._begun: dict[Key, Future[jax.stages.Compiled]] = {}

  def begin(self, function: Jitted, *arguments: Any) -> None:
    """Has a program compiled by the next thread that is free.

    Args:
      function: the program.
      *arguments: arrays or their shapes with shardings. Only the last one, a batch, has other
        shapes in other calls.
    """
    if self._pool:
      self._future(function, arguments)

  def get(self, function: Jitted, *arguments: Any) -> Callable[..., Any]:
    """The compiled program for these arguments, waited for; what `begin` has not begun is begun.

    Raises:
      Exception: that of tracing or compiling it.
    """
    return self._future(function, arguments).result()

  def close(self) -> None:
    """Drops the programs that no thread has begun, and waits for the others: XLA has no way out."""
    if self._pool:
      self._pool.shutdown(cancel_futures=True)

  def _future(self, function: Jitted, arguments: tuple[Any, ...]) -> Future[jax.stages.Compiled]:
    batch = arguments[-1]
    key = function, *((name, x.shape) for name, x in sorted(batch.items()))
    if key not in self._begun:
      shapes = jax.tree.map(_shape, arguments)
      compile_ = lambda: function.lower(*shapes).compile()
      self._begun[key] = self._pool.submit(compile_) if self._pool else _now(compile_)
    return self._begun[key]


def _shape(x: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  """What a program is compiled for: the array itself may be donated before a thread reads it."""
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding, weak_type=x.weak_type)


def _now(compile_: Callable[[], jax.stages.Compiled]) -> Future[jax.stages.Compiled]:
  done: Future[jax.stages.Compiled] = Future()
  done.set_result(compile_())
  return done
