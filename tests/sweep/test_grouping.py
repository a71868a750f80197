"""Groups, padding and locks: what of a sweep needs no training."""

import json
import os
import time

import jax.numpy as jnp
import numpy as np
import pytest

from configs import glue
from lora_jax.sweep import grouping, locks, members, overrides

SMALL = glue.get_config('model=/m/encoder,preset=small')


def named(groups):
  return [[member.name for member in group] for group in groups]


def test_members_share_a_program_unless_they_differ_in_its_form():
  runs = [
    {'method.rank': 1}, {'method.rank': 64}, {'optim.lr': 1e-3}, {'train.batch_size': 16},
    {'method.rank': 65}, {'model.dtype': 'bfloat16'}, {'data.limit': 10}, {'train.epochs': 3},
  ]  # fmt: skip
  assert named(grouping.group(grouping.members(SMALL, runs), 16)) == [
    ['rank=1', 'rank=64', 'lr=0.001', 'epochs=3'],
    ['batch_size=16'], ['rank=65'], ['dtype=bfloat16'], ['limit=10'],
  ]  # fmt: skip


def test_groups_are_of_one_seed_as_far_as_they_can_be_filled():
  runs = [{'seed': seed, 'method.rank': r} for seed in (0, 1) for r in (1, 2, 4)]
  groups = grouping.group(grouping.members(SMALL, runs), 2)
  assert [[member.config.seed for member in group] for group in groups] == [[0, 0], [0, 1], [1, 1]]
  assert len({name for group in named(groups) for name in group}) == 6


def test_a_fresh_base_is_of_one_seed():
  config = glue.get_config('tiny=true')
  assert len(grouping.group(grouping.members(config, [{'seed': 0}, {'seed': 1}]), 4)) == 2


@pytest.mark.parametrize(
  'runs, words',
  [
    ([], 'no runs'),
    ([{'optim.lrr': 1.0}], "'optim.lrr'.*does not fit"),
    ([{'seed': 1}, {'seed': 1}], "two runs are named 'seed=1'"),
  ],
)
def test_what_is_no_sweep_is_refused(runs, words):
  with pytest.raises(ValueError, match=words):
    grouping.members(SMALL, runs)


@pytest.mark.parametrize('text', ['2/2', '1', 'a/b', '-1/2', '1/0'])
def test_a_shard_is_one_of_n(text):
  with pytest.raises(ValueError, match='expected i/n'):
    overrides.parse_shard(text)
  assert overrides.parse_shard('1/2') == (1, 2)


def test_padding_is_undone_and_fills_with_zeros():
  small = {'q': {'lora_a': jnp.ones((3, 2)), 'lora_b': jnp.ones((2, 5))}}
  large = {'q': {'lora_a': jnp.ones((3, 4))}, 'v': {'lora_a': jnp.ones((3, 4))}}
  both = members.stack([small, large])
  assert both['q']['lora_a'].shape == (2, 3, 4) and both['q']['lora_b'].shape == (2, 2, 5)
  assert not both['v']['lora_a'][0].any() and not both['q']['lora_a'][0][:, 2:].any()
  back = members.resize(members.take(both, 0), small)
  assert back.keys() == small.keys()
  np.testing.assert_array_equal(back['q']['lora_a'], small['q']['lora_a'])


def test_a_lock_is_for_one_and_of_a_lost_owner_for_the_next(tmp_path, monkeypatch):
  here = locks._self()
  with locks.Locks(tmp_path) as ours:
    assert ours.take('a,rank=1.5') and not locks.Locks(tmp_path).take('a,rank=1.5')
  assert list(tmp_path.iterdir()) == []  # Released.

  far = tmp_path / 'a.0.json'
  far.write_text(json.dumps(here | {'host': 'elsewhere'}))
  other = locks.Locks(tmp_path)
  assert not other.take('a')
  silent = time.time() - locks.LOST_AFTER - 5
  os.utime(far, (silent, silent))
  assert other.take('a') and (tmp_path / 'a.1.json').exists()

  gone = tmp_path / 'b.0.json'  # Of this machine, killed: nobody has to wait.
  gone.write_text(json.dumps(here | {'started': 'long ago'}))
  assert other.take('b')

  monkeypatch.setattr(locks, 'RENEWED_EVERY', 0.01)
  with other:
    (tmp_path / 'b.2.json').write_text('{}')  # Somebody took us for lost.
    assert other.lost.wait(5)
