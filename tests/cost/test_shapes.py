"""A run as shapes: its architecture, its number of steps, its traced step."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from configs import glue
from lora_jax import tree
from lora_jax.cost import memory, shapes
from lora_jax.train import mesh
from tests.cost import toys


def test_steps_are_counted_from_what_is_known_of_the_examples():
  config = glue.get_config('task=rte,model=fresh,preset=small,method=lora')
  count = lambda **values: shapes.count_steps(memory.changed(config, **values))
  size = {'train.batch_size': 32, 'train.epochs': 3}
  assert count(**size, **{'data.limit': 0}) == 3 * math.ceil(2490 / 32)
  assert count(**size, **{'data.limit': 64}) == 3 * 2
  assert count(**size, **{'data.limit': 10**6}) == 3 * math.ceil(2490 / 32)
  assert count(**size, **{'data.limit': 0, 'task': 'a_task_of_ones_own'}) is None


def test_the_examples_of_every_task_of_glue_are_known():
  assert set(glue.TASKS) <= shapes.EXAMPLES.keys()


def test_a_job_is_of_shapes_and_no_longer_than_the_positions():
  work = shapes.abstract_job(toys.config())
  leaves = jax.tree.leaves((work.frozen, work.trainable))
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
  assert tree.count(work.trainable) == work.summary.trainable
  with pytest.raises(ValueError, match=r'rows of 999999 tokens, .* Lower config.data.max_length'):
    shapes.abstract_job(toys.config(**{'data.max_length': 999_999}))


def test_bytes_of_a_device_are_those_of_its_shards():
  devices = mesh.make_mesh(2)
  split, whole = mesh.evaluation_rows(devices), mesh.replicated(devices)
  kinds = {
    'rows': jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=split),
    'all': jax.ShapeDtypeStruct((5,), jnp.bfloat16, sharding=whole),
  }
  assert shapes.bytes_per_device(kinds) == 4 * 3 * 4 + 5 * 2


def test_a_batch_that_a_mesh_cannot_split_is_refused():
  work = shapes.abstract_job(toys.config(**{'train.batch_size': 9}))
  with pytest.raises(ValueError, match=r'train.batch_size=9 is not a multiple of 2'):
    shapes.trace(work, mesh.make_mesh(2))


def test_scanned_layers_are_one_program_however_many():
  """What is compiled is the same text, sizes aside: so is the time that it takes."""

  def program(layers):
    config = toys.config(**{'train.batch_size': 8, 'model.fresh.num_layers': layers})
    step = shapes.trace(shapes.abstract_job(config), mesh.make_mesh(8))
    return re.sub(r'\d+', 'N', step.traced.lower().as_text())

  assert program(2) == program(8)
