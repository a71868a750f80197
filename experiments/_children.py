"""Commands that another command starts: their output goes to a file, a signal is passed on.

A child is a process of its own: it can run out of memory or crash without ending the others, and it
gives back all that it had on the accelerator.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lora_jax import files
from lora_jax.reproduce.timing import Machine
from lora_jax.train import signals

ROOT = Path(__file__).resolve().parents[1]
PROBE = 'import jax; d = jax.devices(); print(d[0].platform, len(d), d[0].device_kind, sep="|")'
POLL = 0.2  # Seconds.


class Ended(NamedTuple):
  """How a child ended: its status, its last words if it failed, and whether the time was up."""

  status: int
  said: str
  timed_out: bool


def environment(**more: str) -> dict[str, str]:
  """The variables of a child, which finds this project from any folder."""
  path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
  return {**os.environ, 'PYTHONPATH': path, **more}


def begin_probe() -> subprocess.Popen[str]:
  """Begins to find the devices that children get; it leaves the accelerator's memory alone."""
  return subprocess.Popen(
    [sys.executable, '-c', PROBE],
    env=environment(XLA_PYTHON_CLIENT_PREALLOCATE='false'),
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )


def end_probe(probe: subprocess.Popen[str]) -> Machine:
  """The devices; a CPU where they cannot be asked."""
  said = probe.communicate()[0].strip().splitlines() or ['cpu|1|cpu (the devices did not answer)']
  platform, count, name = said[-1].split('|')
  return Machine(platform, int(count), name)


def run(
  arguments: Sequence[str], log: Path, stop: signals.Stop | None = None, deadline: float = 0.0
) -> Ended:
  """Runs `python -m` with these arguments to its end.

  Args:
    arguments: the module and its flags.
    log: the file that its output is added to.
    stop: a signal to this process, which the child gets as SIGTERM: it saves its state and ends.
    deadline: when it gets SIGTERM too, by `time.monotonic`; 0 is never.
  """
  log.parent.mkdir(parents=True, exist_ok=True)
  timed_out = asked = False
  with files.naming(log), log.open('a', encoding='utf-8') as file:
    file.write(f'$ python -m {" ".join(arguments)}\n')
  with log.open('a', encoding='utf-8') as file:
    # Of a session of its own: the terminal's Ctrl-C would reach it beside ours, as a second one.
    child = subprocess.Popen(
      [sys.executable, '-m', *arguments],
      env=environment(),
      stdout=file,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )
    try:
      while child.poll() is None:
        timed_out = timed_out or bool(deadline and time.monotonic() > deadline)
        stopped = stop is not None and stop.is_set()
        if (stopped or timed_out) and not asked:
          asked = True
          if stop is not None:
            stop.saving.set()
          child.terminate()
        time.sleep(POLL)
    finally:
      if child.poll() is None:
        child.terminate()
        child.wait()
  return Ended(child.returncode, last_words(log) if child.returncode else '', timed_out)


def last_words(log: Path) -> str:
  """The last line of an output, which is the cause of an error."""
  lines = [
    line for line in log.read_text(errors='replace', encoding='utf-8').splitlines() if line.strip()
  ]
  return lines[-1] if lines else ''
