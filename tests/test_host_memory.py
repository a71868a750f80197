"""What a process frees is kept on a CPU, and only where nobody chose otherwise."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from lora_jax import host_memory

ROOT = Path(__file__).resolve().parents[1]
# The page faults of 40 MB that a thread allocates again and again: C memory, not Python's.
FAULTS = """
import ctypes, resource, threading
from lora_jax import host_memory
print(host_memory.keep())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def work(times):
  for _ in range(times):
    blocks = [libc.malloc(10 * 2**20) for _ in range(4)]
    for block in blocks:
      ctypes.memset(ctypes.c_void_p(block), 1, 10 * 2**20)
    for block in blocks:
      libc.free(block)
def faults(times):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  thread = threading.Thread(target=work, args=(times,))
  thread.start()
  thread.join()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(1)
print(faults(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')
def test_memory_is_not_mapped_anew():
  """10 MB are 2560 pages; a user who chose for herself gets what she chose."""

  def faults(**own):
    environment = os.environ | {'JAX_PLATFORMS': 'cpu'} | own
    ran = subprocess.run(
      [sys.executable, '-c', FAULTS], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert not ran.returncode, ran.stderr
    taken, count = ran.stdout.split()
    return taken, int(count)

  taken, count = faults()
  assert taken == 'True' and count < 2560
  taken, count = faults(MALLOC_TRIM_THRESHOLD_='131072')
  assert taken == 'False' and count > 10 * 4 * 2560 * 0.9


@pytest.fixture
def calls(monkeypatch):
  """The calls of mallopt that `keep` makes, on a machine that nobody has set up."""
  for name in [name for name in os.environ if name.startswith(('MALLOC_', 'GLIBC_', 'LD_PRE'))]:
    monkeypatch.delenv(name)
  made = []
  library = type('Library', (), {'mallopt': lambda self, *call: made.append(call) or 1})()
  monkeypatch.setattr(host_memory.ctypes, 'CDLL', lambda name: library)
  monkeypatch.setattr(platform, 'libc_ver', lambda: ('glibc', '2.36'))
  return made


def test_another_c_library_is_left_alone(calls, monkeypatch):
  monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
  assert not host_memory.keep() and not calls


@pytest.mark.parametrize('name', ['MALLOC_ARENA_MAX', 'GLIBC_TUNABLES', 'LD_PRELOAD'])
def test_a_user_who_chose_is_left_alone(name, calls, monkeypatch):
  monkeypatch.setenv(name, '2')
  assert not host_memory.keep() and not calls


@pytest.mark.parametrize('platforms, taken', [('cpu', True), ('cuda,cpu', False), ('tpu', False)])
def test_only_a_cpu_that_computes_is_set_up(platforms, taken, calls):
  before = jax.config.jax_platforms
  try:
    jax.config.update('jax_platforms', platforms)
    assert host_memory.keep() == taken == bool(calls)
  finally:
    jax.config.update('jax_platforms', before)
