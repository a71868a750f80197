"""What a plan says, against what is known of it; the TPU compiler's part needs libtpu."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from configs import gpt3
from lora_jax import cost, tree
from lora_jax.cost import memory, shapes, topology
from lora_jax.pretrained import huggingface
from lora_jax.train import mesh


def toy(method='lora', **values):
  config = gpt3.get_config(f'method={method},tiny=true')
  fresh = {'model.fresh.vocab_size': 64, 'data.max_length': 16, 'model.scan': True}
  return memory.changed(config, **fresh, **values)


@pytest.mark.parametrize(
  ('message', 'size'),
  [
    ('Ran out of memory in memory space hbm. Used 24.50G of 15.75G hbm.', 24.5 * 2**30),
    ('memory required for HLO temporaries (400.00M) exceeds available HBM', 400 * 2**20),
    ('something else', None),
  ],
)
def test_the_compilers_message_is_read(message, size):
  assert memory.needed(message) == size


def test_an_architecture_without_weights_is_not_loaded():
  with pytest.raises(ValueError, match='weights are not published'):
    huggingface.locate('gpt3-175b')


def test_a_plan_holds_what_the_shapes_hold():
  config = toy(**{'train.batch_size': 8, 'mesh.data': 8})
  found = cost.plan(config, cost.find('this'))
  made = cost.abstract_job(config)
  sizes = found['bytes']
  assert found['parameters']['trained'] == tree.count(made.trainable) == 2 * 2 * 1 * (32 + 32)
  assert sizes['base'] == tree.nbytes(made.frozen)
  assert sizes['trainable'] == sizes['gradients'] == 4 * tree.count(made.trainable)
  assert sizes['optimizer'] >= 2 * sizes['trainable']
  assert found['fits'] and sizes['spare'] == sizes['capacity'] - sizes['total']
  assert found['steps'] == np.ceil(64 / 8)
  assert 'fits' in cost.describe(found)


def test_the_tpus_compiler_is_asked():
  if topology.libtpu() is None:
    pytest.skip('needs libtpu: pip install "lora_jax[tpu-plan]"')
  where = cost.find('v5e:2x2')
  found = cost.plan(toy(**{'train.batch_size': 4}), where)
  assert found['exact'] and found['fits'] and found['devices'] == 4


def test_scanned_layers_are_one_program_however_many():
  """What is compiled is the same text, sizes aside: so is the time that it takes."""

  def program(layers):
    config = toy(**{'train.batch_size': 8, 'mesh.data': 8, 'model.fresh.num_layers': layers})
    step = shapes.trace(cost.abstract_job(config), mesh.make_mesh(8))
    return re.sub(r'\d+', 'N', step.traced.lower().as_text())

  assert program(2) == program(8)


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
