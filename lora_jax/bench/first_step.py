"""Seconds and programs from the start of a command to the end of its first train step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from lora_jax.bench.timing import Measured, Row, Rows
from lora_jax.data import tasks
from lora_jax.train import job, mesh, optimizer, setup

CACHE = 'JAX_COMPILATION_CACHE_DIR'
# Every program is kept, so that the second run finds all of them.
KEEP_ALL = {
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
}
COMPILED = '/jax/core/compile/backend_compile_duration'  # Named also when the cache is read.
READ = '/jax/compilation_cache/cache_hits'


def measure(config: ConfigDict, task: tasks.Task, began: float) -> Row:
  """Builds a run as `loop.train` does, makes its first step, and says what that took.

  No other work may have gone on in the process.

  Args:
    config: the run's; its steps do not matter.
    task: its task.
    began: when the command was started, in seconds of `time.time()`.

  Returns:
    seconds by purpose, which add up to `seconds`, and numbers of programs: all that were compiled
    or read from JAX's cache, the small ones of initialization among them, and those that were read.
  """
  counts = {'programs': 0, 'read': 0}

  def count_program(event: str, duration_secs: float, **kwargs: str | int) -> None:
    counts['programs'] += event == COMPILED

  def count_read(event: str, **kwargs: str | int) -> None:
    counts['read'] += event == READ

  jax.monitoring.register_event_duration_secs_listener(count_program)
  jax.monitoring.register_event_listener(count_read)
  clock = [time.time()]
  row: Row = {'starting': clock[0] - began}

  def split(name: str) -> None:
    clock.append(time.time())
    row[name] = clock[-1] - clock[-2]

  devices = mesh.make_mesh(**config.mesh)
  split('devices')
  work = job.build(config, task, devices=devices)
  training = setup.make_batches(work, devices)
  tx, _ = optimizer.make_optimizer(config.optim, training.steps_per_epoch, work.groups)
  program = setup.make_program(work, tx, devices)
  state = jax.block_until_ready(program.init(work.trainable))
  split('building')
  batch = jax.device_put(dict(next(iter(training.epoch(0)))), mesh.rows(devices))
  lowered = program.train_step.lower(state, work.frozen, batch)
  split('tracing')
  compiled = lowered.compile()
  split('compiling')
  jax.block_until_ready(compiled(state, work.frozen, batch))
  split('step')
  return {'seconds': clock[-1] - began, **row, **counts}


def run_child(arguments: Sequence[str], cache: str | Path) -> float:
  """Runs a Python process that compiles into a cache folder; returns its wall seconds.

  Raises:
    RuntimeError: with the end of its errors, if it fails.
  """
  env = {**os.environ, CACHE: str(cache), **KEEP_ALL}
  began = time.perf_counter()
  done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f'{" ".join(arguments)} ended with {done.returncode}: {done.stderr[-800:]}')
  return time.perf_counter() - began


def of_process(flags: str) -> Callable[[str], Row]:
  """A function of a cache folder that measures the first step in a process of its own.

  Args:
    flags: of experiments.bench, apart by spaces.
  """

  def measure(cache: str) -> Row:
    with tempfile.TemporaryDirectory(prefix='bench-') as folder:
      out = Path(folder, 'out.json')
      child = ['-m', 'experiments.bench', '--parts=first_step', *flags.split()]
      run_child([*child, f'--out={out}', f'--began={time.time()}'], cache)
      (rows,) = json.loads(out.read_text(encoding='utf-8'))['measured'].values()
    return dict(next(iter(rows.values())))

  return measure


def cold_and_warm(variants: Mapping[str, Callable[[str], Row]]) -> Measured:
  """Each variant with an empty folder for JAX's cache, and again with what it left there.

  Args:
    variants: by name, a function of the cache folder that measures in a process of its own.
  """
  rows: Rows = {}
  for name, variant in variants.items():
    with tempfile.TemporaryDirectory(prefix='cache-') as cache:
      rows[f'{name}, cold'] = variant(cache)
      rows[f'{name}, warm'] = variant(cache)
  note = (
    'Seconds from the command to the end of the first train step, by purpose, one run each: '
    'starting Python and its imports, finding devices, building model and batches, tracing, '
    "compiling (warm: reading JAX's cache), the step. programs: all that were compiled or read, "
    'small ones among them; read: those that came from the cache.'
  )
  return Measured(rows, note)
