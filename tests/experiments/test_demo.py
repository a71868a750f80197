"""The demo's sweep is one program, and its table, grid and picture are of what was trained."""

import pytest
from PIL import Image

from configs import demo as config
from lora_jax.report import demo
from lora_jax.sweep import grouping

ADAPTED = 'model=runs/demo/pretrain,method=lora'


def test_the_sweep_is_one_program_of_every_rank_in_every_choice_of_matrices():
  one = config.get_config(ADAPTED)
  lanes = grouping.lanes(one, config.sweep())
  assert [len(chunk) for chunk in grouping.plan(lanes, grouping.width(one))] == [len(lanes)]
  methods = [lane.config.method for lane in lanes]
  assert {(m.targets, m.rank) for m in methods} == {
    (targets, rank) for targets in config.MATRICES.values() for rank in config.RANKS
  }
  assert {m.alpha / m.rank for m in methods} == {2.0}


@pytest.fixture
def lora():
  return [
    {
      'name': f'lora/{matrices}-{rank}', 'matrices': matrices, 'rank': rank,
      'best': {'dev/loss': 0.9 - 0.1 * i - 0.01 * rank}, 'parameters': {'trainable': 1000 * rank},
    }
    for i, matrices in enumerate(config.MATRICES)
    for rank in config.RANKS
  ]  # fmt: skip


def test_what_the_demo_says_and_draws(lora, tmp_path):
  example = {'context': 'c', 'generated': 'g', 'reference': 'r'}
  rows = [
    {'method': method, 'parameters': count, 'loss': loss, 'bleu': 0.3, 'seconds': seconds,
     'examples': [example]}
    for method, count, loss, seconds in (
      ('none', 0, 2.0, None), ('full', 90_000, 0.5, 60.0), ('LoRA r=1', 900, 0.8, 9.0),
      ('LoRA r=4', 3600, 0.65, 9.0),
    )
  ]  # fmt: skip
  assert demo.table(rows).splitlines()[-1].split() == [
    'LoRA', 'r=4', '3,600', '4.0%', '0.650', '30.0', '9',
  ]  # fmt: skip
  lines = demo.grid(lora).splitlines()
  assert lines[0].split()[-2:] == ['r=1', 'r=8']
  assert [line.split()[-2:] for line in lines[1:]] == [
    ['0.890', '0.820'], ['0.790', '0.720'], ['0.690', '0.620'],
  ]  # fmt: skip
  assert demo.conclusion(rows).startswith('LoRA r=4 made 90% of the improvement')
  demo.draw(rows, lora, tmp_path / 'demo.png')
  with Image.open(tmp_path / 'demo.png') as image:
    assert image.width > image.height > 300
