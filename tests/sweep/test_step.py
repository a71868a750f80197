"""The compiled step of members: what it shares, and that a member's update is its own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.sweep import grouping, members, stacked, step
from lora_jax.sweep.source import Source
from lora_jax.train import mesh, optimizer, setup
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


@pytest.mark.parametrize('seeds', [(0, 0), (0, 1)], ids=['the same batches', 'own batches'])
def test_both_forms_make_the_same_updates(make_config, seeds):
  """By the last item of an epoch of five batches: two of them, and an empty one to fill up."""
  by_group = {'train.batch_size': 9, 'train.steps_per_call': 3}
  config = make_config('lora', **{'optim.clip': 1.0, 'model.hidden_dropout': 0.1}, **by_group)
  of = [
    {'seed': seed, 'method.rank': rank, 'optim.lora_plus': plus}
    for seed, rank, plus in zip(seeds, (1, 4), (1.0, 4.0))
  ]
  works = Source().jobs([member.config for member in grouping.members(config, of)])
  shared, devices = seeds[0] == seeds[1], mesh.make_mesh(1)
  each = [setup.make_batches(work, devices).epoch(0) for work in works]
  ours = [list(batches)[-1] for batches in each]
  batch = ours[0] if shared else {
    name: stacked.stack_batches([one[name] for one in ours], name) for name in ours[0]
  }  # fmt: skip
  per_member = members.per_member(works, [10, 10])
  trainable = members.stack([work.trainable for work in works])
  found = []
  for in_turn in (True, False):
    state = step.init_state(works[0], trainable, seeds, shared=shared)
    update = step.make_train_step(works[0], shared=shared, in_turn=in_turn)
    for _ in range(2):  # The second update moves both factors.
      state, metrics = update(state, works[0].frozen, per_member, batch)
    found.append((state, metrics))
  assert len(ours[0]['input_ids']) == 3
  assert int(found[0][0].step) == 2 * 2
  assert not found[0][1]['examples'][-1].any() and found[0][1]['examples'][:-1].all()
  moved = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), found[0][0].trainable, trainable)
  assert min(map(float, jax.tree.leaves(moved))) > 1e-4
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6, rtol=1e-5), *found)


def test_members_take_turns_on_a_cpu_unless_it_stands_for_several_devices():
  assert step.is_in_turn(mesh.make_mesh(1))
  assert not step.is_in_turn(mesh.make_mesh(2))
