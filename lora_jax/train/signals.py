"""What SIGINT (Ctrl-C) and SIGTERM do: a run saves its state and ends, another command just ends.

A thread hears of a signal at once, also while the main thread compiles or computes and no Python
runs there. It ends the process by `os._exit`: what is saved appears whole or not at all, so that
nothing can be broken by it, and no thread adds its traceback to the one line that says what
happened.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import jax

# Waits so many seconds for a signal: its number, None for none, 0 when the block has ended.
Receive = Callable[[float | None], int | None]
_CLOSED = 0
GRACE_SECONDS = 15.0  # For the step or evaluation that runs; clouds give a process 25 to 30 s.


class Stop:
  """Whether a run is to save its state and end.

  Attributes:
    saving: set when the state is being saved, however long that takes.
  """

  def __init__(self) -> None:
    self.saving = threading.Event()
    self._signal = 0

  def set(self, number: int) -> None:
    """Asks for the end, as this signal does; the first one counts."""
    self._signal = self._signal or number

  def is_set(self) -> bool:
    """Whether a signal has asked for the end."""
    return bool(self._signal)

  def saved(self, step: int, where: object) -> int:
    """Says that the state is saved; returns the exit status, that of a process that it ended."""
    print(f'saved step {step} in {where}; the same command resumes', file=sys.stderr, flush=True)
    return self.status

  @property
  def status(self) -> int:
    """The exit status of a process that the signal ended."""
    return 128 + (self._signal or signal.SIGTERM)


@contextlib.contextmanager
def ending() -> Iterator[None]:
  """Has a signal end the process inside the block, in one line; in the main thread."""
  with _heard((signal.SIGINT, signal.SIGTERM), lambda _: None, lambda number, _: _end(number)):
    yield


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
  """A `Stop` that a signal sets inside the block (in the main thread, where signals arrive).

  A second signal ends the process at once, and so does the first one if the state is not being
  saved after `GRACE_SECONDS`. With several processes SIGTERM is left to JAX (`hosts.stopping`), and
  SIGINT is passed on as SIGTERM.
  """
  stop = Stop()
  several = jax.process_count() > 1

  def hear(number: int, receive: Receive) -> None:
    if several:
      os.kill(os.getpid(), signal.SIGTERM)
    name = signal.Signals(number).name
    print(
      f'\n{name}: the run saves its state after this step and ends; the next one ends it at once',
      file=sys.stderr,
      flush=True,
    )
    then = receive(None if several else GRACE_SECONDS)
    if then is None and stop.saving.is_set():
      then = receive(None)
    if then != _CLOSED:
      _end(number, ' before the state was saved; the same command resumes from the last checkpoint')

  heard = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
  with _heard(heard, (lambda number: None) if several else stop.set, hear):
    yield stop


@contextlib.contextmanager
def _heard(
  numbers: tuple[signal.Signals, ...],
  note: Callable[[int], None],
  hear: Callable[[int, Receive], None],
) -> Iterator[None]:
  """Has the main thread call `note(number)` at a signal, when it can, and a thread `hear`, at once.

  Args:
    numbers: the signals.
    note: called at each of them.
    hear: called at the first one, with a function that waits for the next.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  reading, writing = os.pipe()
  os.set_blocking(writing, False)

  def receive(seconds: float | None) -> int | None:
    while select.select([reading], [], [], seconds)[0]:
      number = os.read(reading, 1)[0]
      if number == _CLOSED or number in numbers:
        return number
    return None

  def listen() -> None:
    if number := receive(None):
      hear(number, receive)

  thread = threading.Thread(target=listen, daemon=True, name='signals')
  before = {number: signal.signal(number, lambda found, _: note(found)) for number in numbers}
  others = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  thread.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(others)
    for number, handler in before.items():
      signal.signal(number, handler)
    os.write(writing, bytes([_CLOSED]))
    thread.join()
    os.close(reading)
    os.close(writing)


def _end(number: int, what: str = '') -> None:
  print(f'\nerror: ended by {signal.Signals(number).name}{what}', file=sys.stderr)
  leave(128 + number)


def leave(status: int) -> None:
  """Ends the process at once, with what was printed; no thread that still runs prints or aborts."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):
      stream.flush()
  os._exit(status)
