"""What a plan says, against what is known of it; the TPU compiler's part needs libtpu."""

import numpy as np
import pytest

from lora_jax import cost, tree
from lora_jax.cost import memory, topology
from lora_jax.pretrained import huggingface
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
