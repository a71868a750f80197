"""What a run leaves at its end: `result.json`, which says how each number was obtained."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jax
from jax.sharding import Mesh

from lora_jax.data.corpus import GENERAL
from lora_jax.result_schema import RunResult, ShapeChoice, Trained
from lora_jax.train import base_options, estimate, mesh

if TYPE_CHECKING:
  from lora_jax.train.record import Record

VERSIONS = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tokenizers', 'numpy')


def make(
  record: Record, generated: Mapping[str, Any] | None = None, members: int = 1, why: str = ''
) -> RunResult:
  """The contents of `result.json`.

  Args:
    record: of a run that has ended.
    generated: the report of the texts that were decoded at the end, if there are any.
    members: number of runs that one program trained together. Of more than one the seconds are this
      run's equal part, so that those of all add up to the time that passed.
    why: why it did, as a line; '' for a run of its own.
  """
  work, progress = record.work, record.progress
  history, seconds = progress['history'], progress['seconds']
  found = {
    **of_run(record),
    'best': record.best,
    'last': history[-1],
    **general_text(record),
    **({} if generated is None else {'generated': generated}),
    'parameters': {
      'trainable': work.summary.trainable,
      'trainable_without_head': work.summary.trainable - work.summary.head,
      'frozen': work.summary.frozen,
    },
    **({} if work.task.kind == 'lm' else {'head': base_options.head_choice(work.config)}),
    'init_adapter_dropped': record.dropped,
    'truncation': work.task.truncation,
    'steps': history[-1]['step'],
    'members': members,
    **({'members_why': why} if why else {}),
    'seconds': dict(seconds),
    'programs': dict(progress['programs']),
    'examples_per_second': progress['examples'] / seconds['training'],
    'tokens_per_second': progress['tokens'] / seconds['training'],
    'padding': 1 - progress['tokens'] / progress['padded_tokens'],
    'shapes': [list(shape) for shape in record.training.planned.shapes],
    'shape_choice': shape_choice(record),
    **about(record.devices),
    'commit': record.commit,
    'inputs': record.inputs,
  }
  return cast(RunResult, found)  # tests/train/test_result.py compares the keys.


def general_text(record: Record) -> dict[str, dict[str, float]]:
  """The losses on general text, `general_text`; nothing where the config asks for none."""
  best, start = record.best, record.progress['start']
  if best is None or not start:
    return {}
  name = f'{GENERAL}/loss'
  found = {'start': start, 'best': best, 'last': record.history[-1]}
  return {'general_text': {when: metrics[name] for when, metrics in found.items()}}


def of_run(record: Record) -> Trained:
  """What is said of a run whether it finished or diverged."""
  config = record.work.config
  return {
    'experiment': config.experiment,
    'paper_table': config.paper_table,
    'task': config.task,
    'model': config.model.name,
    'method': config.method.name,
    'preset': config.preset,
    'seed': config.seed,
    'metric': record.metric,
    'history': record.progress['history'],
    'commit': record.commit,
    'config': json.loads(config.to_json_best_effort()),
  }


def shape_choice(record: Record) -> ShapeChoice:
  """How many shapes the training batches have, and the estimates by which they were chosen."""
  work, training = record.work, record.training
  platform, architecture = mesh.platform(record.devices), work.model.config
  each = estimate.token_seconds(platform, architecture, work.summary.trainable)
  return {
    'most': work.config.data.max_shapes,
    'compile_seconds': estimate.shape_seconds(platform, architecture, scan=work.model.scan),
    'train_seconds': [record.total_steps * each * cost for cost in training.planned.costs],
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
    text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
  except OSError:
    text = ''
  model = re.search(r'^model name\s*: (.+)$', text, re.MULTILINE)
  return f'{os.cpu_count()} x {model[1].strip() if model else platform.machine()}'


def versions() -> dict[str, str]:
  """Versions of the libraries that a number may depend on."""
  return {name: importlib.metadata.version(name) for name in VERSIONS}


def commit() -> str:
  """The commit of the code that runs, with `+` if files differ from it; '' outside a checkout.

  An installed package may lie in the checkout of another project, which does not track it.
  """
  here = Path(__file__).parent
  git = lambda *args: subprocess.run(
    ['git', '-C', here, *args], capture_output=True, text=True, check=True
  ).stdout.strip()
  try:
    git('ls-files', '--error-unmatch', Path(__file__).name)
    return git('rev-parse', 'HEAD') + ('+' if git('status', '--porcelain', '-uno') else '')
  except (OSError, subprocess.CalledProcessError):
    return ''
