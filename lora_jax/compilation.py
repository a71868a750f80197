"""How programs are compiled: the compiler's options, and the cache that commands share.

JAX keys a kept program by its text, the libraries' versions, XLA's flags and the devices. Its text
holds no path, weight or commit, so that another run of the same shapes finds it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import jax
from jax import monitoring
from jax.sharding import Sharding

VARIABLE = 'LORA_JAX_COMPILATION_CACHE'
OFF = 'off'
LEVEL_1 = ('bert', 'roberta')  # Families that LLVM compiles at its level 1.
MOST_BYTES = 2 * 2**30  # The programs that were not used for the longest time go first.
# Smaller ones are many: a run needs six of a train step's shapes and dozens of these, and JAX goes
# through the whole folder (4000 programs, 0.15 s) for each that it adds.
LEAST_SECONDS = 0.1
_COMPILED = '/jax/core/compile/backend_compile_duration'  # Also of a program that was only read.
_READ = '/jax/compilation_cache/cache_hits'


class Programs(NamedTuple):
  """Programs of this process, of any size: how many were compiled, how many read from the cache.

  Attributes:
    compiled: those that the compiler made.
    from_cache: those that were read.
    seconds: of both together, added up over the threads; tracing and lowering are not in it.
  """

  compiled: int = 0
  from_cache: int = 0
  seconds: float = 0.0

  def since(self, before: Programs) -> Programs:
    """What was added since `before`."""
    return Programs(
      self.compiled - before.compiled,
      self.from_cache - before.from_cache,
      self.seconds - before.seconds,
    )


def options(family: str, where: Sharding | None = None) -> dict[str, int] | None:
  """The compiler's options, for `jax.jit`, of a model's program whose arrays lie at `where`.

  On a CPU, LLVM's level 1 for the families whose steps it does not slow: it compiles the train step
  of six layers in two thirds of the processor time. Sums may be taken in another order, so that the
  levels differ by rounding. DeBERTa's step was slower by 3 %, GPT-2's evaluation by 6 %. The
  compilers of accelerators have no such level.

  Args:
    family: the model's.
    where: a sharding of any of its arrays; None is JAX's default device.
  """
  if family not in LEVEL_1:
    return None
  device = next(iter(where.device_set)) if where else jax.devices()[0]
  return {'xla_backend_optimization_level': 1} if device.platform == 'cpu' else None


def programs() -> Programs:
  """The programs of this process since this was first called."""
  return _counter().total


def keep() -> None:
  """Has JAX keep compiled programs in a folder of the user's cache, for the commands to come.

  `LORA_JAX_COMPILATION_CACHE=FOLDER` moves it, `=off` switches it off. Nothing is done where JAX's
  own cache is set (`JAX_COMPILATION_CACHE_DIR`), nor with several processes, of which JAX lets only
  the first write, and which must find the same: they need JAX's variable and a shared folder. A
  folder that cannot be written is one line on stderr.

  Several processes can use the folder at once: JAX locks it. Programs for CPUs with other
  instructions have folders of their own.
  """
  asked, others = os.environ.get(VARIABLE, ''), os.environ.get('JAX_COMPILATION_CACHE_DIR')
  if asked == OFF or others or jax.distributed.is_initialized():
    return
  try:
    root = Path(asked).expanduser() if asked else default_folder()
    folder = root / _instructions()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
    _remove_unfinished(folder)
  except (OSError, RuntimeError) as error:
    print(
      f'Compiled programs are not kept: {error}. Set {VARIABLE} to a folder that can be written, '
      f'or to {OFF}.',
      file=sys.stderr,
    )
    return
  jax.config.update('jax_compilation_cache_dir', str(folder.absolute()))
  jax.config.update('jax_compilation_cache_max_size', MOST_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', LEAST_SECONDS)


def default_folder() -> Path:
  """`lora_jax/compiled` in the user's cache directory.

  Raises:
    RuntimeError: where the user has no home directory.
  """
  cache = os.environ.get('XDG_CACHE_HOME')
  return (Path(cache) if cache else Path.home() / '.cache') / 'lora_jax' / 'compiled'


class _Counter:
  """Counts programs by JAX's events, which name no program."""

  def __init__(self) -> None:
    self.total, self._lock = Programs(), threading.Lock()
    monitoring.register_event_listener(self._event)
    monitoring.register_event_duration_secs_listener(self._duration)

  def _event(self, event: str, **_: str | int) -> None:
    if event == _READ:
      with self._lock:  # The event of its duration counts it as compiled.
        compiled, read, total = self.total
        self.total = Programs(compiled - 1, read + 1, total)

  def _duration(self, event: str, duration_secs: float, **_: str | int) -> None:
    if event == _COMPILED:
      with self._lock:
        compiled, read, total = self.total
        self.total = Programs(compiled + 1, read, total + duration_secs)


@functools.cache
def _counter() -> _Counter:
  return _Counter()


def _instructions() -> str:
  """A name for the instructions that this machine's CPU has: `x86_64-1f2e3d4c`."""
  try:
    text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
  except OSError:
    text = ''
  found = re.search(r'^(flags|Features)\s*:\s*(.+)$', text, re.MULTILINE)
  digest = hashlib.sha256(' '.join(sorted(found[2].split() if found else ())).encode())
  return f'{platform.machine()}-{digest.hexdigest()[:8]}'


def _remove_unfinished(folder: Path) -> None:
  """Removes what a killed process left: JAX writes a program, then the time of its last use.

  Without that time JAX could make room for no other program.
  """
  for program in folder.glob('*-cache'):
    used = program.with_name(program.name.removesuffix('-cache') + '-atime')
    if not used.exists() and time.time() - program.stat().st_mtime > 60:
      program.unlink(missing_ok=True)
