"""The sweep of random subspaces, beside full fine-tuning and LoRA of rank 1."""

import pytest

from configs import intrinsic
from lora_jax.sweep import grouping

SMALL = 'task=mrpc,model=path/to/small,preset=small'


def members(arg):
  return grouping.members(intrinsic.get_config(arg), intrinsic.sweep(arg))


def test_a_variant_of_all_dimensions_and_rates_is_one_program():
  runs = members(f'{SMALL},seeds=1')
  assert len(runs) == 2 * 6 * 4 + 3 + 3
  programs = grouping.programs(runs)
  assert [len(program) for program in programs] == [24, 24, 3, 3]
  last = [program[-1].config.method for program in programs]
  assert [method.name for method in last] == ['intrinsic', 'intrinsic', 'full', 'lora']
  assert (last[0].variant, last[1].variant, last[3].rank) == ('did', 'said', 1)


def test_dimensions_rates_and_variants_can_be_chosen():
  runs = members(f'{SMALL},dimensions=50+70,variants=said,lr=1e-2,seeds=2')
  chosen = [run.config.method for run in runs if run.config.method.name == 'intrinsic']
  assert [(x.dimension, x.variant) for x in chosen] == 2 * [(50, 'said'), (70, 'said')]
  assert len(runs) == 2 * (2 + 2)
  assert {run.config.optim.lr for run in runs} == {1e-2}


def test_one_method_alone():
  (run,) = members(f'{SMALL},methods=full,lr=2e-5,seeds=1')
  assert (run.config.method.name, run.config.optim.lr) == ('full', 2e-5)
  assert len(members(f'{SMALL},methods=lora,seeds=1')) == 3


@pytest.mark.parametrize(
  'arg, error',
  [
    ('task=e2e', "unknown task 'e2e'"),
    ('variants=did+sad', "part of variants= 'sad'.*said"),
    ('dimensions=10+', "dimensions='10.': expected whole numbers"),
    ('lr=fast', "lr='fast': expected numbers"),
    ('methods=lroa', "part of methods= 'lroa'.*lora"),
  ],
)
def test_typos(arg, error):
  with pytest.raises(ValueError, match=error):
    intrinsic.get_config(f'preset=small,model=path/to/small,{arg}')
