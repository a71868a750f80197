"""The compiler's options by platform, the programs that are counted, and the cache of commands."""

import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from jax._src import compilation_cache, compiler

from lora_jax import compilation
from lora_jax.train import mesh, step

ROOT = Path(__file__).resolve().parents[1]
LEVEL = ('xla_backend_optimization_level', 1)
ROWS = jax.ShapeDtypeStruct((1, 4, 8), jnp.int32)
EACH = jax.ShapeDtypeStruct((1, 4, 1), jnp.int32)
BATCH = dict(input_ids=ROWS, segment_ids=ROWS, labels=EACH, weights=EACH)


def apply(frozen, trainable, input_ids, **_):
  return input_ids[:, :1, None] * trainable[None, None]


@pytest.fixture
def overrides(monkeypatch):
  """The options that reach XLA's compiler beside its flags, of each program."""
  seen, compile_ = [], compiler.backend_compile_and_load

  def spy(backend, module, devices, options, *rest):
    seen.append(list(options.env_option_overrides))
    return compile_(backend, module, devices, options, *rest)

  monkeypatch.setattr(compiler, 'backend_compile_and_load', spy)
  monkeypatch.setattr(compilation_cache, 'is_cache_used', lambda backend: False)
  return seen


@pytest.mark.parametrize('family, level', [('bert', [LEVEL]), ('deberta-v2', []), ('', [])])
@pytest.mark.parametrize('devices', [0, 2])
def test_a_cpu_program_is_compiled_at_llvm_level_1(devices, family, level, overrides):
  where = mesh.replicated(mesh.make_mesh(devices)) if devices else None
  one = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in BATCH.items()}
  made = step.make_eval_step(apply, 'classification', where, family)
  made.lower({}, jax.ShapeDtypeStruct((3,), jnp.float32), one).compile()
  assert overrides == [level]


def test_the_train_step_takes_the_same_options(overrides):
  now = jax.eval_shape(lambda: step.init_state(jnp.ones(3), optax.sgd(0.1), 0))
  made = step.make_train_step(apply, optax.sgd(0.1), 'classification', family='roberta')
  made.lower(now, {}, BATCH).compile()
  assert overrides == [[LEVEL]]


@pytest.mark.parametrize('platform', ['tpu', 'gpu'])
def test_an_accelerator_is_given_no_level(platform):
  """By the devices that a program is for: a plan lowers for a TPU on a machine without one."""
  where = types.SimpleNamespace(device_set=(types.SimpleNamespace(platform=platform),))
  assert compilation.options('bert', where) is None
  assert compilation.options('bert', mesh.replicated(mesh.make_mesh(2))) == dict([LEVEL])


def test_programs_are_counted_and_a_second_process_compiles_none(tmp_path):
  """Of any size, with the cache of a folder; another process that runs the same reads them all."""
  code = (
    'import jax, jax.numpy as jnp\n'
    'from lora_jax import compilation\n'
    'compilation.LEAST_SECONDS = 0\n'
    'compilation.keep()\n'
    'before = compilation.programs()\n'
    'jax.jit(lambda x: jnp.tanh(x) @ x)(jnp.ones((8, 8)))\n'
    'print(*compilation.programs().since(before))\n'
  )
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', compilation.VARIABLE: str(tmp_path)}
  del environment['JAX_COMPILATION_CACHE_DIR']  # That of the tests (conftest.py).
  found = []
  for _ in range(2):
    ran = subprocess.run(
      [sys.executable, '-c', code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert not ran.returncode, ran.stderr
    compiled, read, seconds = map(float, ran.stdout.split())
    assert seconds > 0
    found.append((compiled, read))
  assert found[0][0] >= 1 and found == [(found[0][0], 0), (0, found[0][0])]
  (folder,) = tmp_path.iterdir()  # Of this CPU's instructions.
  assert len(list(folder.glob('*-cache'))) == found[0][0]


SETTINGS = (
  'jax_compilation_cache_dir',
  'jax_compilation_cache_max_size',
  'jax_persistent_cache_min_compile_time_secs',
)


@pytest.fixture
def cache(monkeypatch, tmp_path):
  """`cache()` is where JAX keeps programs; the settings are put back, the home is a test's own."""
  before = {name: getattr(jax.config, name) for name in SETTINGS}
  for name in (compilation.VARIABLE, 'JAX_COMPILATION_CACHE_DIR'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
  jax.config.update('jax_compilation_cache_dir', None)  # Not that of the tests (conftest.py).
  jax.config.update('jax_compilation_cache_max_size', -1)
  yield lambda: jax.config.jax_compilation_cache_dir
  for name, value in before.items():
    jax.config.update(name, value)


def test_programs_are_kept_in_the_cache_of_the_user_or_elsewhere(cache, monkeypatch, tmp_path):
  compilation.keep()
  assert Path(cache()).parent == tmp_path / 'home' / 'lora_jax' / 'compiled'
  monkeypatch.setenv(compilation.VARIABLE, str(tmp_path / 'elsewhere'))
  compilation.keep()
  assert Path(cache()).parent == tmp_path / 'elsewhere'
  assert jax.config.jax_compilation_cache_max_size == compilation.MOST_BYTES


def test_programs_are_not_kept_when_switched_off(cache, monkeypatch):
  monkeypatch.setenv(compilation.VARIABLE, compilation.OFF)
  compilation.keep()
  assert cache() is None


def test_the_cache_of_jax_is_left_alone(cache, monkeypatch, tmp_path):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'gs://bucket/compiled')
  compilation.keep()
  assert cache() is None  # As it was: JAX has read its variable, where a process begins with it.
  assert jax.config.jax_compilation_cache_max_size == -1
  assert not (tmp_path / 'home').exists()


def test_several_processes_need_the_cache_of_jax(cache, monkeypatch):
  monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
  compilation.keep()
  assert cache() is None


def test_a_folder_that_cannot_be_written_is_one_line(cache, monkeypatch, tmp_path, capsys):
  (tmp_path / 'file').touch()
  monkeypatch.setenv(compilation.VARIABLE, str(tmp_path / 'file'))
  compilation.keep()
  assert cache() is None
  (line,) = capsys.readouterr().err.splitlines()
  assert str(tmp_path / 'file') in line and compilation.VARIABLE in line


def test_what_a_killed_process_left_is_removed(cache):
  compilation.keep()
  folder = Path(cache())
  names = ('whole-cache', 'whole-atime', 'half-cache', 'now-cache')
  for name in names:
    (folder / name).touch()
  os.utime(folder / 'half-cache', (0, 0))
  compilation.keep()
  # The last one may be another process's, which is about to write its time.
  assert {path.name for path in folder.iterdir()} == {'whole-cache', 'whole-atime', 'now-cache'}
