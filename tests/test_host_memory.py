"""What a process frees is kept on a CPU, and only where nobody chose otherwise."""

import os
import platform
import subprocess
import sys
import types
from pathlib import Path

import pytest

from lora_jax import host_memory

HERE = ('jax_cpu_enable_async_dispatch', False)  # Programs run on the thread that calls them.
ROOT = Path(__file__).resolve().parents[1]
# The page faults of 40 MB that are allocated again and again: C memory, not Python's.
FAULTS = """
import ctypes, resource
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
  work(times)
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
  """What `keep` calls mallopt and JAX with, on a machine with one CPU that nobody has set up."""
  for name in [name for name in os.environ if name.startswith(('MALLOC_', 'GLIBC_', 'LD_PRE'))]:
    monkeypatch.delenv(name)
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  monkeypatch.delenv('JAX_NUM_CPU_DEVICES', raising=False)
  made = []
  note = lambda *call: made.append(call) or True
  library = types.SimpleNamespace(mallopt=note)
  config = types.SimpleNamespace(update=note)
  alone = types.SimpleNamespace(is_initialized=lambda: False)
  fake = types.SimpleNamespace(config=config, distributed=alone)
  monkeypatch.setattr(host_memory, 'jax', fake)
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
def test_only_a_cpu_that_computes_is_set_up(platforms, taken, calls, monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', platforms)
  assert host_memory.keep() == taken
  assert calls == ([(-4, 0), (-1, -1), HERE] if taken else [])


def test_several_devices_would_wait_for_one_another(calls, monkeypatch):
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '2')
  assert not host_memory.keep()
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '1')
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=2')
  assert not host_memory.keep()
  monkeypatch.delenv('XLA_FLAGS')
  monkeypatch.setattr(host_memory.jax.distributed, 'is_initialized', lambda: True)
  assert not host_memory.keep() and not calls
