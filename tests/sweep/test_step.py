"""The compiled step of members: what it shares, and that a member's update is its own."""

import re

import jax
import jax.numpy as jnp

from lora_jax import tree
from lora_jax.sweep import grouping, members, step
from lora_jax.sweep.source import Source
from lora_jax.train import optimizer
from lora_jax.train import step as single_step
from lora_jax.train.step import init_state
from tests.sweep.runs import targets


def compiled(config, overrides, shared=True):
  """The compiled step of members at one shape, and their jobs; of a single run for one override."""
  works = Source().jobs([member.config for member in grouping.members(config, overrides)])
  shape = jax.ShapeDtypeStruct((1, 8, 24), jnp.int32)  # No shape of a matrix.
  each = jax.ShapeDtypeStruct((1, 8, 1), jnp.int32)
  batch = {name: shape for name in ('input_ids', 'segment_ids', 'position_ids', 'token_type_ids')}
  batch |= {'prediction_positions': each, 'labels': each}
  batch |= {'weights': jax.ShapeDtypeStruct((1, 8, 1), jnp.float32)}
  if len(works) == 1:
    tx, _ = optimizer.make_optimizer(config.optim, 10)
    now = jax.eval_shape(lambda: init_state(works[0].trainable, tx, 0))
    made = single_step.make_train_step(works[0].apply, tx, 'classification')
    return made.lower(now, works[0].frozen, batch).compile(), works
  per_member = members.per_member(works, [10] * len(works))
  trainable = members.stack([work.trainable for work in works])
  now = step.init_state(works[0], trainable, [work.config.seed for work in works], shared=shared)
  made = step.make_train_step(works[0], shared=shared, in_turn=False)
  return made.lower(now, works[0].frozen, per_member, batch).compile(), works


def products(text, *shapes):
  """How many products of the compiled program have an operand of one of the shapes."""
  shape_of = dict(re.findall(r'%([\w.-]+) = (\w+\[[\d,]*\])', text))
  dots = re.findall(r' dot\((.*?)\)', text)
  return sum(any(shape_of.get(x) in shapes for x in re.findall(r'%([\w.-]+)', d)) for d in dots)


def test_members_share_each_product_with_the_base_and_no_copy_of_it(make_config):
  wide = {
    'model.fresh.hidden_size': 128,
    'model.fresh.intermediate_size': 512,
    'model.scan': False,
    'model.fresh.num_layers': 2,
    **targets('query', 'value'),
  }
  config = make_config(**wide)
  one, (work,) = compiled(config, [{'optim.lr': 1e-2}])
  many, _ = compiled(config, [{'optim.lr': rate} for rate in (1e-2, 2e-2, 3e-2, 4e-2)])
  ratio = many.cost_analysis()['flops'] / one.cost_analysis()['flops']
  assert ratio <= 4 * 1.02, ratio
  # The first layer's keys and queries belong to no member: they are computed once.
  assert ratio < 4
  kernel = 'f32[128,512]', 'f32[512,128]'
  texts = [x.as_text() for x in (one, many)]
  found = [products(text, *kernel) for text in texts]
  assert found[0] == found[1] > 0, found
  copies = [f'f32[4,{x[4:-1]}]' for x in kernel]
  assert not any(copy in texts[1] for copy in copies), 'a member has a base of its own'
  assert not re.search(r'f32\[128,512\]\S* copy\(', texts[1])
  frozen = tree.nbytes(work.frozen)
  assert many.memory_analysis().argument_size_in_bytes < frozen + 5 * 4 * tree.nbytes(
    work.trainable
  )
