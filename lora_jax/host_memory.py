"""The memory of a process that computes on a CPU: what a step frees, the next one takes again."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import jax

# mallopt's parameters (malloc.h of glibc), with what they are set to.
SETTINGS = {
  'M_ARENA_MAX': (-8, 1),  # One pool for all threads: pools of threads are given back at once.
  'M_MMAP_MAX': (-4, 0),  # Large arrays lie in the pool too, and are not unmapped when freed.
  'M_TRIM_THRESHOLD': (-1, 2**31 - 1),  # The free end of the pool is kept.
}
# A user who sets one of these has chosen for herself, or another allocator.
VARIABLES = ('GLIBC_TUNABLES', 'LD_PRELOAD')
ACCELERATORS = ('nvidia[0-9]*', 'kfd', 'accel[0-9]*', 'vfio/[0-9]*')  # Device files in /dev.


def keep() -> bool:
  """Has glibc keep what a process frees, so that a step's arrays are not mapped anew in each step.

  It must be called before there are threads, and is of use on a CPU alone: nothing is done where
  the C library is not glibc, where JAX will find an accelerator, or where the user has set
  `MALLOC_*` or `GLIBC_TUNABLES`.

  Returns:
    whether the settings were taken.
  """
  chosen = any(name in VARIABLES or name.startswith('MALLOC_') for name in os.environ)
  if chosen or platform.libc_ver()[0] != 'glibc' or not _on_cpu():
    return False
  libc = ctypes.CDLL(None)
  return all([libc.mallopt(number, value) for number, value in SETTINGS.values()])


def _on_cpu() -> bool:
  """Whether JAX will compute on the CPU, as far as can be told before its backend starts."""
  if platforms := jax.config.jax_platforms:
    return platforms.split(',')[0] == 'cpu'
  return not any(path for name in ACCELERATORS for path in Path('/dev').glob(name))
