"""The page of counts says by how much a print differs from a count, and why."""

import pytest

from lora_jax.report import document
from lora_jax.report.pages import counts

ROW = {
  'table': 'table 2', 'model': 'm', 'method': 'bitfit', 'options': {}, 'quoted': True,
  'printed': '0.3M', 'computed': 100_000, 'note': 'why',
}  # fmt: skip


def test_the_difference_is_in_parameters():
  lora = {
    'method': 'lora',
    'quoted': False,
    'computed': 294_912,
    'options': {'rank': 8, 'targets': ['.*/(query|value)']},
  }
  (page,) = counts.pages({'c.json': {'experiment': 'counts', 'counts': [ROW, ROW | lora]}})
  text = document.markdown(page)
  assert '| table 2 | m | bitfit* |  | 0.3M | 100,000 | +200,000 | why |' in text
  assert '| lora | rank 8, targets query value | 0.3M | 294,912 | agrees |  |' in text
  assert page.ours == '1 of 2 agree'
  assert counts.pages({}) == []


@pytest.mark.parametrize(
  'printed, computed, same',
  [
    ('4.7M', 4_718_592, True),
    ('18.8M', 18_874_368, True),  # Cut.
    ('18.9M', 18_874_368, True),  # Rounded.
    ('3.0M', 3_171_840, False),
    ('0.35M', 393_216, False),
    ('1,500.0M', 1_500_040_000, True),
  ],
)
def test_a_print_agrees_if_it_is_rounded_or_cut(printed, computed, same):
  assert counts.agrees(printed, computed) == same
