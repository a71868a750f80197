"""What runs left, and that two of them are the same."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from lora_jax import tree
from lora_jax.train import checkpoints, curve, job

ROOT = Path(__file__).resolve().parents[2]


def result_of(workdir):
  return json.loads((workdir / 'result.json').read_text())


def trained(workdir, which='last'):
  """What a finished run trained, by path."""
  return tree.flatten(job.load_run(workdir, which)[1])


def assert_same_run(one, other):
  """Metrics and final parameters equal to the last bit; only times and the place differ."""
  ours, theirs = result_of(one), result_of(other)
  for name in ('history', 'best', 'last', 'steps', 'padding', 'parameters'):
    assert ours[name] == theirs[name], name
  ours, theirs = (curve.read(folder / 'metrics.jsonl') for folder in (one, other))
  assert curve.reproducible(ours) == curve.reproducible(theirs)
  ours, theirs = trained(one), trained(other)
  assert ours.keys() == theirs.keys()
  for path, leaf in ours.items():
    np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)


def save_run(folder, config, trainable):
  """A run directory that holds these parameters as a run leaves them, without a step."""
  saved = checkpoints.Checkpoints(folder)
  saved.save_trainable(1, trainable, {}, score=0.5)
  saved.close()
  (folder / 'config.json').write_text(json.dumps(json.loads(config.to_json_best_effort())))


def start(config, workdir):
  """A process of experiments.train; programs that it compiles are kept beside its directory."""
  file = workdir.with_name('config.py')
  file.write_text(
    'import json\nfrom ml_collections import config_dict\n'
    f'def get_config():\n  return config_dict.ConfigDict(json.loads({config.to_json()!r}))\n'
  )
  command = ['-m', 'experiments.train', f'--config={file}', f'--workdir={workdir}']
  once = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(workdir.with_name('compiled'))}
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=once, **pipes)


def latest(workdir):
  """The largest step that has a checkpoint."""
  steps = [int(p.name) for p in (workdir / 'checkpoints').glob('*') if p.name.isdigit()]
  return max(steps, default=0)


def wait_for_step(workdir, step, process):
  """Waits until a process has saved a step, or has ended."""
  while process.poll() is None and latest(workdir) < step:
    time.sleep(0.005)
