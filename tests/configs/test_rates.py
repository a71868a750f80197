"""The grid of ranks, rates, scales and successors."""

import pytest

from configs import rates
from lora_jax.sweep import grouping

SMALL = 'task=cola,model=path/to/small,preset=small'


def members(arg):
  return grouping.members(rates.get_config(arg), rates.sweep(arg))


def test_the_grid_by_default():
  runs = members(f'{SMALL},seeds=1')
  # 5 ranks of LoRA and one of each of five successors at 6 rates, and 6 of full fine-tuning.
  assert len(runs) == len({run.name for run in runs}) == 5 * 6 + 5 * 6 + 6
  assert {run.config.method.rank for run in runs if run.config.method.name == 'lora'} == {
    *rates.RANKS['lora']
  }
  vera = [run.config.method for run in runs if run.config.method.name == 'vera']
  assert {(section.rank, section.targets) for section in vera} == {(256, rates.TARGETS['all'])}
  full = [run.config.optim.lr for run in runs if run.config.method.name == 'full']
  assert full == [*rates.FULL_RATES]


def test_ranks_rates_scales_targets_and_lora_plus_share_a_program():
  lists = 'ranks=1+8+64,scales=alpha+rslora+one,targets=attention+mlp+all,lr=1e-3+1e-2'
  runs = members(f'{SMALL},methods=lora+lora_plus,{lists},seeds=2')
  assert len(runs) == 2 * 3 * 3 * 3 * 2 * 2
  assert len(grouping.programs(runs)) == 1
  assert len(grouping.programs(members(f'{SMALL},seeds=1,ranks=16'))) == 5


def test_vera_has_ranks_and_no_scales():
  runs = members(f'{SMALL},methods=vera,ranks=64+256,scales=alpha+one,lr=1e-2,seeds=1')
  assert [run.config.method.rank for run in runs] == [64, 256]
  assert runs[0].name != runs[1].name


def test_the_scale_of_each_rank():
  runs = members(f'{SMALL},methods=lora,ranks=4+64,scales=alpha+rslora+one,lr=1e-3,seeds=1')
  sections = [run.config.method for run in runs]
  scales = [s.alpha / (s.rank**0.5 if s.rslora else s.rank) for s in sections]
  assert scales == [4.0, 0.25, 8.0, 2.0, 1.0, 1.0]


def test_no_run_generates_texts():
  config = rates.get_config('task=e2e,model=models/smollm2')
  assert (config.decode.contexts, config.decode.final) == (0, '')


@pytest.mark.parametrize(
  'arg, error',
  [
    ('methods=lora+dorra', "part of methods= 'dorra'.*dora"),
    ('scales=alfa', "part of scales= 'alfa'.*alpha"),
    ('targets=mpl', "part of targets= 'mpl'.*mlp"),
    ('ranks=8+x', "ranks='8.x': expected whole numbers"),
    ('ranks=0', "ranks='0': expected whole numbers"),
    ('lr=1e-3+fast', "lr='1e-3.fast': expected numbers"),
  ],
)
def test_typos(arg, error):
  with pytest.raises(ValueError, match=error):
    rates.get_config(f'{SMALL},{arg}')
