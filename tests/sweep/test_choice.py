"""Which runs share a program: by what ends soonest, on made-up costs and on a toy sweep."""

import jax
import numpy as np

from lora_jax.sweep import choice, grouping
from lora_jax.sweep.source import Source


def runs(make_config, *of):
  """Runs of (steps, rank) or (steps, rank, seed), each with two factors."""
  found = []
  for number, (steps, rank, *seed) in enumerate(of):
    shapes = {'lora_a': (100, rank), 'lora_b': (rank, 100)}
    trainable = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    config = make_config(**{'seed': seed[0] if seed else 0})
    found.append(choice.Run(grouping.Member(str(number), config), steps, trainable))
  return found


def costs(**changed):
  """A step of one token that takes a second, and as much again for 1,000 parameters."""
  made = choice.Costs(
    program=10.0, overhead=0.0, token=lambda trained: 1 + trained / 1000, tokens=1.0, kept=0.0,
    memory=1e9,
  )  # fmt: skip
  return made._replace(**changed)


def sizes(*arguments):
  return [len(group) for group in choice.split(*arguments)]


def test_ranks_share_a_program_until_their_padding_costs_more_than_another(make_config):
  short, long = (runs(make_config, *((steps, rank) for rank in (1, 1, 40))) for steps in (1, 100))
  # Padded to rank 40, a step of rank 1 takes 9 s instead of 1.2.
  assert sizes(short[1:], costs(program=8.0), 16) == [2]
  assert sizes(short[1:], costs(program=7.0), 16) == [1, 1]
  assert sizes(long, costs(), 16) == [2, 1]


def test_what_every_step_takes_is_shared_and_memory_is_a_bound(make_config):
  alike = runs(make_config, *[(100, 1)] * 6)
  free = costs(program=0.0, overhead=0.5)
  assert sizes(alike, free, 16) == [6]
  assert max(sizes(alike, free, 4)) <= 4
  each = choice.COPIES * 4 * 200
  assert max(sizes(alike, free._replace(memory=3.5 * each), 16)) == 3
  assert sizes(alike, free._replace(memory=each / 2), 16) == [1] * 6


def test_seeds_share_a_program_only_where_few_steps_are_padded(make_config):
  few, many = (runs(make_config, (steps, 1, 0), (steps, 1, 1)) for steps in (10, 100))
  assert sizes(few, costs(), 16) == [2]
  assert sizes(many, costs(), 16) == [1, 1]


def test_a_group_narrows_as_its_members_end():
  assert list(choice.widths([5, 9, 9, 9])) == [(4, 5), (4, 4)]
  assert list(choice.widths([2, 2, 2, 7])) == [(4, 2), (1, 5)]
  assert choice.narrowed(4, 2) == 2 and choice.narrowed(5, 3) == 5 and choice.narrowed(1, 0) == 1


def test_the_groups_of_a_sweep_are_the_same_at_every_start_and_say_why(make_config):
  config = make_config(**{'sweep.width': 0})
  of = grouping.members(config, [{'method.rank': rank} for rank in (4, 1, 2)])
  first, again = (choice.choose(of, 0, Source()) for _ in range(2))
  assert first == again and [group.members for group in first] == [of]
  assert '3 runs in 1 program (3 members, computed one after the other)' in first[0].why
  shared = choice.choose(of, 0, Source(), machines=3)
  assert [len(group.members) for group in shared] == [1, 1, 1]  # One for each machine.


def test_a_width_that_is_given_is_kept_and_nothing_is_read_for_it(make_config):
  of = grouping.members(make_config(), [{'method.rank': rank} for rank in (1, 2, 4)])
  groups = choice.choose(of, 2, source=None)
  assert [len(group.members) for group in groups] == [2, 1]
  assert groups[0].why == 'at most 2 runs in a program, as config.sweep.width says'
