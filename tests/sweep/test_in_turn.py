"""Members that are computed one after the other compute what they do side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax.sweep import grouping, members, stacked, step
from lora_jax.sweep.source import Source
from lora_jax.train import mesh, setup


@pytest.mark.parametrize('seeds', [(0, 0), (0, 1)], ids=['the same batches', 'own batches'])
def test_both_forms_make_the_same_updates(make_config, seeds):
  config = make_config('lora', **{'optim.clip': 1.0, 'model.hidden_dropout': 0.1})
  of = [{'seed': seed, 'method.rank': rank} for seed, rank in zip(seeds, (1, 4))]
  works = Source().jobs([member.config for member in grouping.members(config, of)])
  shared, devices = seeds[0] == seeds[1], mesh.make_mesh(1)
  each = [setup.make_batches(work, devices).epoch(0) for work in works]
  ours = [next(batches) for batches in each]
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
  assert int(found[0][0].step) == 2 * len(ours[0]['input_ids'])
  moved = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), found[0][0].trainable, trainable)
  assert min(map(float, jax.tree.leaves(moved))) > 1e-4
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6, rtol=1e-5), *found)


def test_members_take_turns_on_a_cpu_unless_it_stands_for_several_devices():
  assert step.is_in_turn(mesh.make_mesh(1))
  assert not step.is_in_turn(mesh.make_mesh(2))
