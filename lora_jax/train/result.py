"""What a run leaves at its end: `result.json`, which says how each number was obtained."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from lora_jax.data import batches, tasks
from lora_jax.train import job, mesh

VERSIONS = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tokenizers', 'numpy')


class Clock:
  """Seconds of a run by what they went into, over all its starts: training, compiling, evaluation.

  Compiling is the wall time of the first call with batches of a shape; neither it nor the
  evaluations are in training's seconds. Decoding has its own, its compilations included.
  """

  def __init__(self) -> None:
    self._seconds = {'training': 0.0, 'compiling': 0.0, 'evaluation': 0.0}
    self._began: float | None = None
    self._running = ['training']
    self._shapes: set[Any] = set()

  def start(self) -> None:
    """Begins to count."""
    self._began = time.monotonic()

  def stop(self) -> None:
    """Stops counting."""
    self._seconds = self.seconds()
    self._began = None

  def add(self, seconds: Mapping[str, float]) -> None:
    """Adds what an earlier start of the run counted."""
    for name, value in seconds.items():
      self._seconds[name] = self._seconds.get(name, 0.0) + value

  def seconds(self) -> dict[str, float]:
    """Seconds so far."""
    running = 0.0 if self._began is None else time.monotonic() - self._began
    return self._seconds | {'training': self._seconds['training'] + running}

  @contextlib.contextmanager
  def measure(self, name: str) -> Iterator[None]:
    """Counts a block under a name, and not under what it is a part of."""
    self._running.append(name)
    began = time.monotonic()
    yield
    passed = time.monotonic() - began
    self._running.pop()
    self._seconds[name] = self._seconds.get(name, 0.0) + passed
    self._seconds[self._running[-1]] -= passed

  def compiling_if_new(
    self, what: str, arrays: Mapping[str, jax.Array]
  ) -> contextlib.AbstractContextManager:
    """Counts a block as compiling if it is the first call of `what` with arrays of these shapes."""
    shapes = what, *((name, array.shape) for name, array in sorted(arrays.items()))
    if shapes in self._shapes:
      return contextlib.nullcontext()
    self._shapes.add(shapes)
    return self.measure('compiling')


def score(task: tasks.Task, record: Mapping[str, float]) -> float:
  """The number that selects the best evaluation, higher being better: the first split's metric."""
  value = record[f'{next(iter(task.evals))}/{task.metric}']
  return value if task.higher_is_better else -value


def make(
  work: job.Job,
  progress: Mapping[str, Any],
  seconds: Mapping[str, float],
  training: batches.Batches,
  devices: Mesh,
  dropped: list[str],
  code: str,
  generated: Mapping[str, Any] | None = None,
  lanes: int = 1,
) -> dict[str, Any]:
  """The contents of `result.json`.

  Args:
    code: the commit that the run began with.
    generated: the report of the texts that were decoded at the end, if there are any.
    lanes: number of runs that one program trained together. Of more than one the seconds are this
      run's equal part, so that those of all add up to the time that passed.
  """
  config, history = work.config, progress['history']
  scores = [score(work.task, record) for record in history]
  best = history[scores.index(max(scores))]
  return {
    'experiment': config.experiment,
    'paper_table': config.paper_table,
    'task': config.task,
    'model': config.model.name,
    'method': config.method.name,
    'preset': config.preset,
    'seed': config.seed,
    'metric': f'{next(iter(work.task.evals))}/{work.task.metric}',
    'best': best,
    'last': history[-1],
    'history': history,
    **({} if generated is None else {'generated': generated}),
    'parameters': {
      'trainable': work.summary.trainable,
      'trainable_without_head': work.summary.trainable - work.summary.head,
      'frozen': work.summary.frozen,
    },
    'init_adapter_dropped': dropped,
    'steps': history[-1]['step'],
    'members': lanes,
    'seconds': dict(seconds),
    'examples_per_second': progress['examples'] / seconds['training'],
    'tokens_per_second': progress['tokens'] / seconds['training'],
    'padding': 1 - progress['tokens'] / progress['slots'],
    'shapes': [list(shape) for shape in training.shapes],
    **about(devices),
    'commit': code,
    'config': json.loads(config.to_json_best_effort()),
  }


def about(devices: Mesh | None = None) -> dict[str, Any]:
  """What a number is obtained with: versions and commit; of devices, what and on how many hosts."""
  found = {'versions': versions(), 'commit': commit()}
  if devices is None:
    return found
  hosts = jax.process_count()
  return {'device': mesh.device_names(devices), 'hosts': hosts, 'cpu': processor(), **found}


def processor() -> str:
  """`2 x AMD EPYC`: cores and their model, or the architecture where the system names none."""
  try:
    text = Path('/proc/cpuinfo').read_text()
  except OSError:
    text = ''
  model = re.search(r'^model name\s*: (.+)$', text, re.MULTILINE)
  return f'{os.cpu_count()} x {model[1].strip() if model else platform.machine()}'


def versions() -> dict[str, str]:
  """Versions of the libraries that a number may depend on."""
  return {name: importlib.metadata.version(name) for name in VERSIONS}


def commit() -> str:
  """The commit of the code that runs, with `+` if files differ from it; '' outside a checkout."""
  here = Path(__file__).parent
  git = lambda *args: subprocess.run(
    ['git', '-C', here, *args], capture_output=True, text=True, check=True
  ).stdout.strip()
  try:
    return git('rev-parse', 'HEAD') + ('+' if git('status', '--porcelain', '-uno') else '')
  except (OSError, subprocess.CalledProcessError):
    return ''
