"""The pages of GPT-3 have a panel for each task, and ours where the methods were run."""

from lora_jax.report.pages import gpt3
from tests.report.toys import ablation, generated, numbers_of, tables_of


def test_table_4_has_the_scores_of_what_was_decoded():
  ours = [
    generated(seed, 0.5, 8.0, experiment='gpt3', task='samsum', model='gpt2-xl') for seed in (0, 1)
  ]
  first, printed = tables_of(gpt3.table_4(ours))
  (row,) = first.rows
  assert row['decoded'] == 'bleu 0.5000 ± 0.0000, nist 8.0000 ± 0.0000, meteor 0.4600 ± 0.0000'
  assert (row['model'], row['seeds'], len(printed.rows)) == ('gpt2-xl', '0, 1', 8)
  assert gpt3.table_4([]).ours == ''
  assert list(numbers_of(gpt3.table_4([]))) == ['GPT-3 (paper), WikiSQL', 'GPT-3 (paper), MNLI-m']


def test_table_15_draws_lora_by_its_size():
  runs = [ablation('rank', 'Wq,Wv', r, 0, 0.5 + r / 100) for r in (1, 2)]
  page = gpt3.table_15(runs, {})
  (series,) = numbers_of(page)['ours: mrpc (accuracy), small']
  assert (series['x'], series['y']) == ([0.0002, 0.0004], [51.0, 52.0])
  assert gpt3.table_15(runs[:1], {}).ours == ''
