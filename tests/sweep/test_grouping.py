"""Which runs share a program, and in which groups."""

import pytest

from configs import glue
from lora_jax.sweep import grouping

SMALL = glue.get_config('model=/m/encoder,preset=small')


def named(groups):
  return [[member.name for member in group] for group in groups]


def test_members_share_a_program_unless_they_differ_in_its_form():
  runs = [
    {'method.rank': 1}, {'method.rank': 64}, {'optim.lr': 1e-3}, {'train.batch_size': 16},
    {'method.rank': 65}, {'model.dtype': 'bfloat16'}, {'data.limit': 10}, {'train.epochs': 3},
    {'optim.lora_plus': 16.0},
  ]  # fmt: skip
  assert named(grouping.group(grouping.members(SMALL, runs), 16)) == [
    ['rank=1', 'rank=64', 'lr=0.001', 'epochs=3', 'lora_plus=16.0'],
    ['batch_size=16'],
    ['rank=65'],
    ['dtype=bfloat16'],
    ['limit=10'],
  ]


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
    ([{'seed': 1}, {}], 'a run has no overrides'),
    ([{'optim.lrr': 1.0}], "'optim.lrr'.*does not fit"),
    ([{'seed': 1}, {'seed': 1}], "two runs are named 'seed=1'"),
  ],
)
def test_what_is_no_sweep_is_refused(runs, words):
  with pytest.raises(ValueError, match=words):
    grouping.members(SMALL, runs)


def test_runs_are_described_by_what_tells_them_from_others():
  names = (
    'targets=q,rank=1,lr=0.001,seed=0',
    'targets=q,rank=1,lr=0.003,seed=0',
    'targets=q,rank=8,lr=0.001,seed=0',
    'method=full,lr=0.001,seed=0',
  )
  config = glue.get_config('tiny=true')
  every = [grouping.Member(name, config) for name in names]
  assert grouping.described(every[:2], every) == '2 runs, targets=q, rank=1, lr=0.001|0.003'
  assert grouping.described(every[:3], every[:3]) == '3 runs, rank=1|8, lr=0.001|0.003'
  assert grouping.described(every[3:], every) == names[3]
