"""The demo decodes within its positions, and its sweep is one program."""

from configs import demo
from lora_jax.sweep import grouping


def test_the_demo_decodes_the_domain_it_is_adapted_to_within_its_positions():
  base_model, adapted = demo.get_config(), demo.get_config('model=runs/demo/pretrain')
  assert adapted.decode.max_tokens + 44 <= base_model.model.fresh.max_positions


def test_the_sweep_is_one_program_of_every_rank_in_every_choice_of_matrices():
  config = demo.get_config('model=runs/demo/pretrain,method=lora')
  runs = grouping.members(config, demo.sweep())
  assert [len(group) for group in grouping.group(runs, config.sweep.width)] == [len(runs)]
  methods = [run.config.method for run in runs]
  assert {(method.targets, method.rank) for method in methods} == {
    (targets, rank) for targets in demo.MATRICES.values() for rank in demo.RANKS
  }
  assert {method.alpha / method.rank for method in methods} == {2.0}
