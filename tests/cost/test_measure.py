"""The peak of a step here beside the planned one."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from lora_jax.cost import measure, topology
from tests.cost import toys


def test_only_this_machine_is_measured():
  other = dataclasses.replace(topology.find('this'), name='v5e:2x2')
  with pytest.raises(ValueError, match=r"v5e:2x2: only this machine .*find\('this'\)"):
    measure.measure(toys.config(), other, toys.plan(1))


def test_the_peak_here_is_what_the_plan_says(tmp_path):
  """In a process of its own, which nothing else makes grow."""
  command = [sys.executable, '-m', 'experiments.plan', '--measure', f'--out={tmp_path}/plan.json']
  shape = dict(vocab_size=16384, hidden_size=512, intermediate_size=2048, num_layers=2)
  fresh = [f'--config.model.fresh.{name}={size}' for name, size in shape.items()]
  cell = '--config=configs/glue.py:model=fresh,preset=small,method=full'
  once = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'compiled')}
  subprocess.run([*command, cell, *fresh, '--batch=16', '--length=64'], check=True, env=once)
  found = json.loads((tmp_path / 'plan.json').read_text())['measured']
  assert found['measured'] > 4 * 4 * (16384 * 512 + 2 * 12 * 512 * 512)  # Adam's, by the shapes.
  assert found['ratio'] == pytest.approx(1, abs=0.2)
