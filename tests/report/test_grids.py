"""Runs of a sweep are one grid if they differ in what it varies alone."""

from lora_jax.report import grids
from tests.report.toys import PATTERNS, ablation


def test_an_entry_has_one_run_of_each_seed():
  runs = [ablation('rank', 'Wq', 8, seed, 0.5 + seed / 10) for seed in (1, 0)]
  again = ablation('matrices', 'Wq', 8, 0, 0.9)
  (grid,) = grids.grids([*runs, again], grids.RANK_AND_TARGETS)
  assert (grid.title, grid.metric) == ('mrpc (accuracy), small', 'dev/accuracy')
  assert grid.select(weights='Wq', rank=8) == [runs[1], runs[0]]
  assert grid.select(weights='Wq', rank=1) == []


def test_another_setting_is_another_grid_and_says_which():
  runs = [ablation('rank', 'Wq', 8, 0, 0.5, epochs=epochs) for epochs in (1, 9)]
  titles = [grid.title for grid in grids.grids(runs, grids.RANK_AND_TARGETS)]
  assert titles == [f'mrpc (accuracy), small, train.epochs={epochs}' for epochs in (1, 9)]


def test_a_run_that_diverged_is_of_the_grid_of_its_model_and_task():
  run = ablation('rank', 'Wq', 8, 0, 0.5)
  (grid,) = grids.grids([run], grids.RANK_AND_TARGETS)
  assert grids.is_of(ablation('rank', 'Wv', 64, 1, 0.1), grid)
  for field, other in dict(task='cola', metric='dev/loss', experiment='low_data').items():
    assert not grids.is_of(run | {field: other}, grid)


def test_texts_that_were_generated_tell_no_losses_apart():
  runs = [ablation('rank', 'Wq', 8, seed, 0.5) for seed in (0, 1)]
  for run, contexts in zip(runs, (0, 100), strict=True):
    run['config']['decode'] = dict(contexts=contexts)
  assert len(grids.grids(runs, grids.RANK_AND_TARGETS)) == 2  # By an accuracy.
  (grid,) = grids.grids([run | {'metric': 'dev/loss'} for run in runs], grids.RANK_AND_TARGETS)
  assert grid.title == 'mrpc (loss), small'


def test_matrices_have_the_papers_names_and_others_their_own():
  for weights in PATTERNS:
    assert grids.weights(ablation('rank', weights, 8, 0, 0.5)) == weights
  other = ablation('rank', 'Wq', 8, 0, 0.5)
  other['config']['method']['targets'] = ['.*/(query|up)']
  assert grids.weights(other) == 'Wq,up'


def test_numbers_of_seeds_in_words():
  assert grids.seeds([[1], [2], []]) == '1 seed'
  assert grids.seeds([[1, 2], [3, 4]]) == '2 seeds'
  assert grids.seeds([[1], [2, 3, 4]]) == '1 to 3 seeds'
