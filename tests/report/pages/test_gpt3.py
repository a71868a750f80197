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


def test_table_15_sets_methods_of_several_sizes_beside_lora():
  def sized(method, score, seed=0, lr=1e-3, **options):
    one = ablation('sizes', 'Wq', 1, seed, score)
    config = one['config'] | {'method': {'name': method, **options}, 'optim': {'lr': lr}}
    count = {'trainable': 9, 'trainable_without_head': 10 * options.get('prefix', 5000)}
    return one | {'config': config, 'method': method, 'parameters': count}

  found = [
    sized('prefix_embed', 0.3, prefix=64, infix=8),
    sized('prefix_embed', 0.4, prefix=64, infix=8, lr=1e-2),  # The best of two rates counts.
    sized('prefix_embed', 0.2, prefix=64, infix=4),  # No row of the table.
    sized('prefix_embed', 0.35, prefix=256, infix=8),
    sized('full', 0.7),
    ablation('rank', 'Wq,Wv', 1, 0, 0.6),
  ]
  page = gpt3.table_15(found, {})
  rows = [tuple(row.values()) for row in tables_of(page)[0].rows]
  assert rows == [
    ('LoRA', 'rq=rv=1', '200', '60.0 (n 1)', '0.001', '0'),
    ('full fine-tuning', '-', '50,000', '**70.0 (n 1)**', '0.001', '0'),
    ('PrefixEmbed', 'lp=64 li=8', '640', '40.0 (n 1)', '0.01', '0'),
    ('PrefixEmbed', 'lp=256 li=8', '2,560', '35.0 (n 1)', '0.001', '0'),
  ]
  panel = numbers_of(page)['ours: mrpc (accuracy), small']
  assert [(series['method'], len(series['x'])) for series in panel] == [
    ('lora', 1), ('full', 1), ('prefix_embed', 2)
  ]  # fmt: skip
