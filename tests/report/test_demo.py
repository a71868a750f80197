"""The demo's tables and picture are of what was trained."""

import pytest
from PIL import Image

from lora_jax.report import demo


@pytest.fixture
def lora(tmp_path):
  return [
    demo.LoraRun(
      tmp_path / f'{matrices}-{rank}',
      matrices,
      rank,
      {
        'best': {'dev/loss': 0.9 - 0.1 * i - 0.01 * rank},
        'parameters': {'trainable': 1000 * rank},
      },
    )
    for i, matrices in enumerate(('query and value', 'all of attention', 'all'))
    for rank in (1, 8)
  ]


ROWS = [
  demo.Row(
    method, count, loss, seconds, 0.3, [{'context': 'c', 'generated': method, 'reference': 'r'}]
  )
  for method, count, loss, seconds in (
    ('none', 0, 2.0, None),
    ('full', 90_000, 0.5, 60.0),
    ('LoRA r=1', 900, 0.8, 9.0),
    ('LoRA r=4', 3600, 0.65, 9.0),
  )
]


def test_the_table_has_the_share_of_what_full_fine_tuning_trains():
  assert demo.table(ROWS).splitlines()[-1].split() == [
    'LoRA', 'r=4', '3,600', '4.0%', '0.650', '30.0', '9',
  ]  # fmt: skip
  assert demo.conclusion(ROWS).startswith('LoRA r=4 made 90% of the improvement')


def test_there_is_no_share_of_an_improvement_that_full_fine_tuning_did_not_make():
  for loss in (2.0, 2.5):  # As before adaptation, and worse.
    rows = [ROWS[0], ROWS[1]._replace(loss=loss), *ROWS[2:]]
    said = 'LoRA r=4 reached dev loss 0.650, where full fine-tuning made no improvement, with 4.0%'
    assert demo.conclusion(rows).startswith(said)


def test_the_grid_is_matrices_by_rank(lora):
  lines = demo.grid(lora).splitlines()
  assert lines[0].split()[-2:] == ['r=1', 'r=8']
  assert [line.split()[-2:] for line in lines[1:]] == [
    ['0.890', '0.820'],
    ['0.790', '0.720'],
    ['0.690', '0.620'],
  ]


def test_the_samples_are_of_the_best_lora():
  assert [line.split()[0] for line in demo.samples(ROWS).splitlines()] == [
    'context',
    'none',
    'full',
    'LoRA',
    'reference',
  ]
  assert 'LoRA r=4' in demo.samples(ROWS) and 'LoRA r=1' not in demo.samples(ROWS)


def test_the_picture_has_both_bounds(lora, tmp_path):
  path = demo.picture(ROWS, lora).draw(tmp_path)
  assert path == tmp_path / 'demo.png'
  with Image.open(path) as image:
    assert image.width > image.height > 300
  labels = {
    series['label'] for panel in demo.picture(ROWS, lora).numbers for series in panel['series']
  }
  assert {'before adaptation', 'full fine-tuning', 'LoRA, all'} <= labels
