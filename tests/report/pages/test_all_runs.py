"""The page of all runs has a row for each group of seeds."""

from lora_jax.report.pages import all_runs
from tests.report.toys import run


def test_seeds_are_one_row_and_other_configs_another():
  other = run(0, 0.7, config=run(0, 0)['config'] | {'optim': {'lr': 1e-2}})
  first, second = all_runs.rows([run(0, 0.8), run(1, 0.9), other])
  assert first['best'] == '0.8500 ± 0.0707'
  assert first['last'] == '0.7500 ± 0.0707'
  assert (first['seeds'], first['minutes']) == ('0, 1', '2.0')
  assert first['trained (without head)'] == '3,000 (1,000)'
  assert (second['best'], second['seeds']) == ('0.7000', '0')
  assert (first['settings'], second['settings']) == ('optim.lr=0.001', 'optim.lr=0.01')
  assert all_runs.page([]).ours == '' and all_runs.page([run(0, 0.8)]).ours == '1 run'


def test_runs_that_diverged_are_listed_with_the_reason():
  lost = run(2, 0.0) | {'error': 'loss is nan at step 3'}
  made = all_runs.page([run(0, 0.8)], [lost])
  assert made.ours == '1 run, 1 diverged'
  (row,) = made.blocks[1].rows
  assert (row['lr'], row['seed']) == ('0.001', '2')
  assert row['what was not finite'] == 'loss is nan at step 3'
  assert all_runs.page([], [lost]).ours == '1 diverged'
