"""The memory of a process that computes on a CPU: what a step frees, the next one takes again.

glibc gives large blocks that are freed back to the kernel, which hands them out again page by page,
filled with zeros: a fifth of the processor time of a train step of a small encoder. It keeps only
what the main thread has freed, so programs run on the thread that calls them, as on a CPU they may:
there is nothing that its two threads would do at the same time. The memory's peak is no higher.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import jax

# mallopt's parameters (glibc's malloc.h), with what they are set to.
SETTINGS = {
  'M_MMAP_MAX': (-4, 0),  # Large blocks lie among the others, and are not unmapped when freed.
  'M_TRIM_THRESHOLD': (-1, -1),  # The free end of the heap is kept.
}
# A user who sets one of these has chosen for herself, or another allocator.
VARIABLES = ('GLIBC_TUNABLES', 'LD_PRELOAD', 'JAX_CPU_ENABLE_ASYNC_DISPATCH')
ACCELERATORS = ('nvidia[0-9]*', 'kfd', 'accel[0-9]*', 'vfio/[0-9]*')  # Device files in /dev.


def keep() -> bool:
  """Has this process keep the memory that a program frees, and run programs where they are called.

  To be called before JAX's backend starts. Only one CPU device is set up so: several would wait for
  one another. Nothing is done where the C library is not glibc, where JAX will find an accelerator,
  or where the user has set `MALLOC_*` or one of `VARIABLES`.

  Returns:
    whether it was done.
  """
  chosen = any(name in VARIABLES or name.startswith('MALLOC_') for name in os.environ)
  if chosen or platform.libc_ver()[0] != 'glibc' or not _on_one_cpu():
    return False
  libc = ctypes.CDLL(None)
  if not all([libc.mallopt(number, value) for number, value in SETTINGS.values()]):
    return False
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  return True


def _on_one_cpu() -> bool:
  """Whether JAX will compute on one CPU device, as far as can be told before its backend starts."""
  several = os.environ.get('JAX_NUM_CPU_DEVICES', '1') not in ('1', '-1')
  several |= 'host_platform_device_count' in os.environ.get('XLA_FLAGS', '')
  if several or jax.distributed.is_initialized():
    return False
  if platforms := os.environ.get('JAX_PLATFORMS'):
    return platforms.split(',')[0] == 'cpu'
  return not any(path for name in ACCELERATORS for path in Path('/dev').glob(name))
