"""The clock of a run: seconds by their purpose, and the programs that were compiled meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lora_jax import compilation
from lora_jax.compilation import Programs


class Clock:
  """Seconds of a program by their purpose: training, compiling, evaluation, decoding.

  Compiling is the wall time of the first call with batches of a shape; neither it nor the
  evaluations count as training. Decoding counts by itself, with its compilations.

  Attributes:
    compiling: is told what is being compiled (`training, 8 x 128 tokens`).
  """

  def __init__(self) -> None:
    self._seconds = {'training': 0.0, 'compiling': 0.0, 'evaluation': 0.0}
    self._since: float | None = None  # When training's seconds were last added.
    self._running = ['training']
    self._shapes: set[tuple[object, ...]] = set()
    self._programs = compilation.programs()
    self.compiling: Callable[[str], None] = lambda what: None

  def start(self) -> None:
    """Starts to count."""
    self._since = time.monotonic()

  def split(self) -> dict[str, float]:
    """The seconds since the last call, or since the start; they are counted no second time."""
    now = time.monotonic()
    seconds = dict(self._seconds)
    if self._since is not None:
      seconds['training'] += now - self._since
      self._since = now
    self._seconds = dict.fromkeys(seconds, 0.0)
    return seconds

  def programs(self) -> Programs:
    """The programs since the last call, or since the clock was made; counted no second time."""
    before, self._programs = self._programs, compilation.programs()
    return self._programs.since(before)

  @contextlib.contextmanager
  def measure(self, name: str) -> Iterator[None]:
    """Counts a block under a name, and not under that of the block around it."""
    self._running.append(name)
    began = time.monotonic()
    try:
      yield
    finally:
      passed = time.monotonic() - began
      self._running.pop()
      self._seconds[name] = self._seconds.get(name, 0.0) + passed
      self._seconds[self._running[-1]] -= passed

  def compiling_if_new(
    self, what: str, arrays: Mapping[str, Any]
  ) -> contextlib.AbstractContextManager[None]:
    """Counts a block as compiling if it is the first call of `what` with arrays of these shapes."""
    shapes = what, *((name, array.shape) for name, array in sorted(arrays.items()))
    if shapes in self._shapes:
      return contextlib.nullcontext()
    self._shapes.add(shapes)
    self.compiling(f'{what}, {" x ".join(map(str, arrays["input_ids"].shape[-2:]))} tokens')
    return self.measure('compiling')
