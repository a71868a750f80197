"""Methods side by side: the rate is chosen on each task, the rest is what the runs say."""

import pytest

from lora_jax.report import document
from lora_jax.report.pages import comparison, glue

NAMES = {'cola': 'matthews', 'stsb': 'pearson'}


def run(method, task, lr, seed, score, **config):
  metric = f'dev/{NAMES[task]}'
  section = {'name': method, **({} if method == 'full' else {'bottleneck': 8})}
  return {
    'experiment': 'glue', 'paper_table': '', 'task': task, 'model': 'mini', 'method': method,
    'preset': 'compare', 'metric': metric, 'device': '1 x cpu', 'cpu': '2 x x86_64', 'seed': seed,
    'best': {metric: score}, 'last': {metric: score}, 'history': [],
    'parameters': {'trainable': 3000, 'trainable_without_head': 1000},
    'seconds': {'training': 60.0 + seed, 'compiling': 30.0, 'evaluation': 30.0},
    'tokens_per_second': 1.0, 'padding': 0.0, 'commit': 'a' * 40,
    'config': {
      'seed': seed, 'task': task, 'method': section, 'optim': {'lr': lr}, 'data': {'dir': method},
      'sweep': {'width': seed},
      'train': {'epochs': 2, 'batch_size': 32}, **config,
    },
  }  # fmt: skip


# Of the adapter three rates were tried on one seed, and the best of them has the others.
TRIED = [run('adapter_h', 'stsb', lr, 0, score) for lr, score in ((3e-4, 0.80), (1e-3, 0.85))]
RUNS = [
  *TRIED,
  run('adapter_h', 'stsb', 3e-3, 0, 0.84),
  run('adapter_h', 'stsb', 3e-3, 1, 0.99),  # A seed that the others do not have: not compared.
  run('adapter_h', 'stsb', 1e-3, 1, 0.83),
  *(run('adapter_h', 'cola', 1e-3, seed, 0.30 + seed / 100) for seed in (0, 1)),
  run('full', 'stsb', 6e-5, 0, 0.86),
]


def test_a_row_is_a_method_at_the_rate_that_was_best_on_each_task():
  full, adapter = comparison.rows(RUNS, {})
  assert adapter == {
    'method': 'adapter_h (bottleneck 8)',
    'trained (without head)': '1,000',
    'CoLA, Matthews': '30.5 ± 0.7',
    'STS-B, Pearson': '84.0 ± 1.4',
    'average': '57.2',
    'lr': '0.001* / 0.001',
    'seeds': '0, 1',
    'training seconds': '60 / 60',
  }
  assert (full['method'], full['lr'], full['seeds']) == ('full', '- / 6e-05*', '0')
  assert (full['CoLA, Matthews'], full['STS-B, Pearson']) == ('not run', '**86.0 (n 1)**')
  assert (full['average'], full['training seconds']) == ('-', '- / 60')


def test_a_rate_that_was_best_on_one_task_is_not_kept_where_another_is_better():
  lower = [run('adapter_h', 'cola', 3e-4, seed, 0.50) for seed in (0, 1)]
  _, adapter = comparison.rows([*RUNS, *lower], {})
  assert (adapter['lr'], adapter['CoLA, Matthews']) == ('0.0003* / 0.001', '50.0 ± 0.0')
  cola, stsb = comparison.rates([*RUNS, *lower])
  assert (cola['task'], cola['seeds'], cola['chosen']) == (
    'CoLA, Matthews',
    '0, 1',
    '0.0003, the smallest tried',
  )
  assert stsb['task'] == 'STS-B, Pearson'


def test_one_prediction_for_all_has_a_row_and_what_does_not_exceed_it_is_marked():
  levels = {('cola', 'matthews'): 30.0, ('stsb', 'pearson'): 0.0}
  _, adapter, constant = comparison.rows(RUNS, levels)
  assert adapter['CoLA, Matthews'] == '30.5 ± 0.7, at chance'
  assert (constant['method'], constant['CoLA, Matthews'], constant['lr']) == (
    'one prediction for all',
    '30.0',
    '-',
  )


def test_one_task_has_no_average():
  assert 'average' not in comparison.rows(RUNS[:3], {})[0]


def test_the_rates_that_were_tried_are_named():
  (row,) = comparison.rates(RUNS)
  assert row == {
    'method': 'adapter_h (bottleneck 8)',
    'task': 'STS-B, Pearson',
    'seeds': '0',
    'rates': '0.0003: 80.0, 0.001: 85.0, 0.003: 84.0',
    'chosen': '0.001',
  }
  (row,) = comparison.rates(RUNS[:2])
  assert row['chosen'] == '0.001, the largest tried'
  # A rate at which a seed diverged was tried: the best lies inside, and is not that one.
  found = [one | {'diverged': {0.001: 1, 0.1: 2}} for one in RUNS[:3]]
  (row,) = comparison.rates(found)
  assert row['rates'] == '0.0003: 80.0, 0.001: 85.0 (1 diverged), 0.003: 84.0, 0.1: (2 diverged)'
  assert (row['chosen'], comparison.rows(found, {})[0]['lr']) == ('0.003', '0.003')


def test_runs_of_a_task_that_differ_in_more_are_other_columns():
  longer = run('lora', 'stsb', 1e-3, 0, 0.9, train={'epochs': 9, 'batch_size': 8})
  short = run('full', 'stsb', 1e-3, 0, 0.8, train={'epochs': 1, 'batch_size': 8})
  lora, full = comparison.rows([longer, short], {})
  assert lora['STS-B, Pearson, 9 epochs'] == '90.0 (n 1)' and 'average' not in full
  assert full['STS-B, Pearson, 1 epoch'] == '80.0 (n 1)'

  assert comparison.settings([longer, short]) == (
    'STS-B, Pearson, 9 epochs: 9 epochs with batches of 8; '
    'STS-B, Pearson, 1 epoch: 1 epoch with batches of 8.'
  )


def test_an_average_counts_no_task_twice():
  """Of a task's columns it is the one that most methods have."""
  longer = run('full', 'stsb', 6e-5, 0, 0.96, train={'epochs': 9, 'batch_size': 32})
  cola = run('full', 'cola', 6e-5, 0, 0.4)
  full, adapter = comparison.rows([longer, *RUNS, cola], {})
  assert full['STS-B, Pearson, 9 epochs'] == '96.0 (n 1)'
  assert (full['average'], adapter['average']) == ('63.0', '57.2')


def test_the_picture_has_each_method_at_its_chosen_rate():
  cola, stsb = comparison.picture(RUNS, {('cola', 'matthews'): 0.0}).numbers
  assert [panel['title'] for panel in (cola, stsb)] == ['CoLA, Matthews', 'STS-B, Pearson']
  full, adapter = stsb['series']
  assert (full['label'], full['x'], full['y']) == ('full fine-tuning', [1000], [86.0])
  assert (adapter['label'], adapter['method']) == ('Adapter-H (bottleneck 8)', 'adapter_h')
  assert cola['line'] == ('one prediction for all', 0.0) and stsb['line'] is None
  assert adapter['y'] == pytest.approx([84.0]) and adapter['spread'] == pytest.approx([2**0.5])
  assert [series['label'] for series in cola['series']] == ['Adapter-H (bottleneck 8)']


def test_the_page_has_them_where_there_are_several_methods():
  shown = lambda runs: document.markdown(glue.page(runs, {}))
  text = shown(RUNS)
  assert '### Methods side by side: mini, preset compare\n' in text
  assert 'The rates that were tried' in text
  elsewhere = shown([*RUNS, run('full', 'stsb', 6e-5, 1, 0.86) | {'cpu': '8 x other'}])
  words = ' '.join(elsewhere.split())
  assert 'Trained on 1 x cpu (2 x x86_64), 1 x cpu (8 x other).' in words
  alone = [found for found in RUNS if found['method'] == 'full']
  assert '### Methods' not in shown(alone)
  assert '### Methods' not in shown([found | {'experiment': 'e2e'} for found in RUNS])
