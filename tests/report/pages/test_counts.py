"""The page of counts says by how much a print differs from a count, and why."""

from lora_jax.report import document
from lora_jax.report.pages import counts

ROW = {
  'table': 'table 2', 'model': 'm', 'method': 'bitfit', 'options': {}, 'quoted': True,
  'printed': '0.3M', 'computed': 100_000, 'note': 'why',
}  # fmt: skip


def test_the_difference_is_in_parameters():
  lora = {
    'method': 'lora', 'quoted': False, 'computed': 294_912,
    'options': {'rank': 8, 'targets': ['.*/(query|value)']},
  }  # fmt: skip
  (page,) = counts.pages({'c.json': {'experiment': 'counts', 'counts': [ROW, ROW | lora]}})
  text = document.markdown(page)
  assert '| table 2 | m | bitfit* |  | 0.3M | 100,000 | +200,000 | why |' in text
  assert '| lora | rank 8, targets query value | 0.3M | 294,912 | agrees |  |' in text
  assert page.ours == '1 of 2 agree'
  assert counts.pages({}) == []
