"""The page of learning rates: best rates by rank, scores at one rate, and what diverged."""

import numpy as np

from lora_jax.report import document
from lora_jax.report.pages import rates
from tests.report.toys import PATTERNS, run, tables_of

# The mean accuracy of each rate, by method and rank; None where the runs diverge.
SCORES = {
  ('lora', 1): {1e-3: 0.60, 3e-3: 0.70, 1e-2: 0.65},
  ('lora', 16): {1e-3: 0.70, 3e-3: 0.72, 1e-2: None},
  ('dora', 16): {1e-3: 0.74, 3e-3: 0.69, 1e-2: 0.65},
  ('vera', 256): {1e-3: 0.60, 3e-3: 0.68, 1e-2: 0.66},
  ('full', None): {1e-4: 0.71, 3e-4: 0.73, 1e-3: 0.60},
}


def trained(method, rank, lr, seed, score, alpha=16.0, **more):
  section = {'name': 'full'}
  if method != 'full':
    section = {
      'rank': rank,
      'alpha': alpha,
      'rslora': False,
      'targets': [PATTERNS['Wq,Wv']],
      'dora': method == 'dora',
    } | more
  if method == 'vera':
    section = {'rank': rank, 'targets': [PATTERNS['Wq,Wv']], 'd_initial': 0.1}
  config = {'seed': seed, 'optim': {'lr': lr, 'lora_plus': 1.0}, 'method': section}
  name = method if method in ('full', 'vera') else 'lora'
  found = run(seed, score or 0.0, experiment='rates', method=name, config=config)
  return found if score else found | {'error': 'loss is nan at step 3.'}


def grid():
  every = [
    trained(method, rank, lr, seed, score and score + 0.01 * seed)
    for (method, rank), scores in SCORES.items()
    for lr, score in scores.items()
    for seed in (0, 1)
  ]
  return [one for one in every if 'error' not in one], [one for one in every if 'error' in one]


def test_best_rates_scores_at_one_rate_and_what_diverged():
  (made,) = rates.pages(*grid())
  table, of_peft = tables_of(made)
  assert of_peft.rows[0]['method'] == 'full'
  assert [(row['method'], row['r'], row['best rate']) for row in table.rows] == [
    ('LoRA', '1', '0.003'),
    ('LoRA', '16', '0.003'),
    ('DoRA', '16', '0.001 †'),
    ('VeRA', '256', '0.003'),
    ('full fine-tuning', '-', '0.0003'),
  ]
  score, fixed = 'accuracy, %', "at LoRA's rate"
  assert [row[score] for row in table.rows][2] == '**74.5 ± 0.7**'
  assert [row[fixed] for row in table.rows] == [
    *('70.5 ± 0.7', '72.5 ± 0.7', '69.5 ± 0.7', '68.5 ± 0.7'),
    '-',
  ]
  assert table.rows[1]['diverged at (runs)'] == '0.01 (2)'
  assert table.rows[1]['rates tried'] == '3' and table.rows[1]['seeds'] == '0, 1'
  text = next(block for block in made.blocks if 'Learning Rate Matters' in str(block))
  assert "They are 10 times full fine-tuning's, 0.0003." in text
  assert 'best rates of LoRA, Wq,Wv, 16 / r are 0.003 to 0.003, 1 times apart' in text
  assert 'differences to LoRA are: DoRA +2.0; VeRA at r=256 -4.0; full fine-tuning +1.0.' in text


def test_the_map_has_a_row_for_each_rank_and_leaves_out_what_diverged(tmp_path):
  (made,) = rates.pages(*grid())
  heat, methods = made.pictures
  (shown,) = heat.numbers['maps']
  assert (shown['rows'], shown['columns']) == (['1', '16'], ['0.001', '0.003', '0.01'])
  np.testing.assert_allclose(np.array(shown['values'], float)[1], [70.5, 72.5, np.nan])
  assert shown['best'] == [1, 1]
  (panel,) = methods.numbers
  assert [series['label'] for series in panel['series']] == [
    'LoRA, Wq,Wv, 16 / r',
    'DoRA, Wq,Wv, 16 / r',
    'VeRA, Wq,Wv',
    'full fine-tuning',
  ]
  assert document.write([made], tmp_path)  # Both pictures are drawn.


def test_one_run_is_of_two_scales_where_they_are_equal():
  found = [trained('lora', r, 1e-3, 0, 0.7, alpha=16.0) for r in (4, 16)]
  found += [trained('lora', r, 1e-3, 0, 0.7, alpha=float(r)) for r in (4, 64)]
  found += [trained('lora', 16, 1e-3, 0, 0.7, rslora=True)]
  rows = [(row.line.scale, row.rank) for row in rates.rows_of(found, [])]
  assert rows == [('1', 4), ('1', 16), ('1', 64), ('16 / r', 4), ('16 / r', 16), ('rslora', 16)]


def test_of_several_scales_lora_is_that_of_the_paper():
  found = [
    trained('lora', r, lr, 0, score, alpha=alpha)
    for r, alpha, scores in (
      (4, 16.0, (0.7, 0.8, 0.6)),
      (8, 16.0, (0.7, 0.8, 0.6)),
      (4, 4.0, (0.7, 0.6, 0.9)),
      (8, 8.0, (0.7, 0.6, 0.9)),
    )
    for lr, score in zip((1e-3, 3e-3, 1e-2), scores, strict=True)
  ]
  (made,) = rates.pages(found, [])
  text = next(block for block in made.blocks if 'Learning Rate Matters' in str(block))
  assert 'best rates of LoRA, Wq,Wv, 16 / r are 0.003 to 0.003' in text and '0.01' not in text

  dora = trained('lora', 4, 1e-3, 0, 0.9, alpha=8.0, dora=True)  # Of another scale, which is said.
  (made,) = rates.pages([*found, dora], [])
  text = next(block for block in made.blocks if 'Learning Rate Matters' in str(block))
  assert 'differences to LoRA, Wq,Wv, 16 / r are: DoRA, Wq,Wv, 8 / r' in text


def test_runs_of_other_options_have_no_common_mean():
  plain = [trained('lora', 16, 1e-3, seed, 0.8, dropout=0.0, init='uniform') for seed in (0, 1)]
  other = trained('lora', 16, 1e-3, 0, 0.6, dropout=0.5, init='normal')
  (made,) = rates.pages([*plain, other], [])
  first, second = tables_of(made)[0].rows
  assert (first['options'], first['accuracy, %']) == ('-', '**80.0 ± 0.0**')
  assert (second['options'], second['accuracy, %']) == ('dropout=0.5, init=normal', '60.0 (n 1)')
  (made,) = rates.pages(plain, [])
  assert 'options' not in tables_of(made)[0].rows[0]


def test_without_runs_there_is_no_page():
  assert rates.pages([], []) == rates.pages([run(0, 0.5)], []) == []
