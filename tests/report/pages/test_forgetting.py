"""The page of forgetting: the loss on general text of the base and of adapted models."""

from pytest import approx

from lora_jax.report import pages
from lora_jax.report.pages import forgetting
from lora_jax.report.runs import Recorded
from tests.report.toys import generated, run, tables_of


def test_what_each_method_forgets_stands_beside_its_score():
  texts = lambda best: {'general_text': {'start': 3.0, 'best': best, 'last': 9.0}}
  found = [generated(seed, 0.5, 8.0) | texts(3.25 + seed / 10) for seed in (0, 1)]
  found += [generated(0, 0.5, 8.0, method='full') | texts(2.9)]
  (page,) = forgetting.pages([*found, run(0, 0.5)])
  (table,) = tables_of(page)
  shown = [(row['general text, base'], row['adapted'], row['change']) for row in table.rows]
  assert shown == [
    ('3.000 ± 0.000', '3.300 ± 0.071', '+0.300'),
    ('3.000', '2.900', '-0.100'),
  ]
  assert table.rows[1]['score'] == '2.000 (n 1)' and page.ours == 'e2e, small'
  (panel,) = page.blocks[-1].numbers
  assert panel['title'] == 'e2e, small' and panel['line'] == ('the base', 0.0)
  lora, full = panel['series']
  assert (lora['label'], lora['x'], lora['y']) == ('LoRA (query, value)', [2.0], [approx(0.3)])
  assert full['label'].startswith('full fine-tuning') and full['y'] == [approx(-0.1)]


def test_a_line_joins_the_rates_of_a_method_and_other_options_are_another():
  def at(lr, dora, best):
    config = {'seed': 0, 'optim': {'lr': lr}, 'method': {'dora': dora}, 'data': {'limit': 40}}
    return generated(0, 0.5, 8.0, config=config) | {'general_text': {'start': 3.0, 'best': best}}

  found = [at(1e-2, False, 3.5), at(1e-3, True, 3.2), at(1e-3, False, 3.1)]
  (page,) = forgetting.pages(found)
  (table,) = tables_of(page)
  assert [(row['settings'], row['rate']) for row in table.rows] == [
    ('method.dora=False, 40 examples', '0.001'),
    ('method.dora=False, 40 examples', '0.01'),
    ('method.dora=True, 40 examples', '0.001'),
  ]
  (panel,) = page.blocks[-1].numbers
  assert [(one['label'], one['y']) for one in panel['series']] == [
    ('LoRA, method.dora=False', [approx(0.1), 0.5]),
    ('LoRA, method.dora=True', [approx(0.2)]),
  ]
  recorded = Recorded(runs={str(i): one for i, one in enumerate(found)})
  assert 'forgetting' in {page.name for page in pages.make(recorded)}


def test_without_such_runs_there_is_no_page():
  assert forgetting.pages([run(0, 0.5)]) == []
