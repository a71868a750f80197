"""What a plan says, against what is known of it; the TPU compiler's part needs libtpu."""

import numpy as np
import pytest

from lora_jax import cost, tree
from lora_jax.cost import memory, topology
from lora_jax.models import fused_attention
from lora_jax.pretrained import huggingface
from lora_jax.train import mesh
from tests.cost import toys


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
  config = toys.config(**{'train.batch_size': 8, 'mesh.data': 8})
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
  found = cost.plan(toys.config(**{'train.batch_size': 4}), where)
  assert found['exact'] and found['fits'] and found['devices'] == 4


@pytest.mark.parametrize('layer, scan', [('.*', None), ('.*/layers_0', False)])
def test_a_plan_knows_whether_the_run_may_choose_its_layers(monkeypatch, layer, scan):
  compiled = memory.Compiled(temporary=0, program=0, total=0, message='')
  monkeypatch.setattr(memory, 'compile_step', lambda step: compiled)
  targets = (f'{layer}/.*/query',)
  values = {'model.scan': None, 'train.batch_size': 8, 'method.targets': targets}
  config = toys.config(**values)
  assert cost.plan(config, cost.find('this'))['scan'] is scan


def test_the_products_of_attention_count_where_a_kernel_computes_them(monkeypatch):
  """A TPU's kernel of attention is one equation of the step, whose inside is a single tile."""
  sizes = {'data.max_length': 256, 'model.fresh.max_positions': 256, 'train.batch_size': 8}
  off = {'model.dtype': 'bfloat16', 'model.attention_dropout': 0.0}
  config = toys.config(**sizes, **off)
  compiled = memory.Compiled(temporary=0, program=0, total=0, message='')
  traced = []

  def compile_step(step):
    traced.append(str(step.jaxpr).count('pallas_call'))
    return compiled

  monkeypatch.setattr(memory, 'compile_step', compile_step)
  here = cost.plan(config, cost.find('this'))['flops']
  target = lambda devices: fused_attention.Target('tpu', (0, 0), devices, mesh.ROWS, 'tensor')
  monkeypatch.setattr(mesh, 'target', target)
  assert cost.plan(config, cost.find('this'))['flops'] == here
  assert traced[0] == 0 and traced[1] > 0
