"""An entry is the mean of the best epochs, and a difference from the paper's is marked."""

from lora_jax.report import runs, scores
from tests.report.toys import run


def test_an_entry_says_how_many_runs_it_is_of():
  assert scores.entry([]) == 'not run'
  assert scores.entry([run(0, 0.861)]) == '86.1 (n 1)'
  assert scores.entry([run(0, 0.8), run(1, 0.9)]) == '85.0 ± 7.1'
  loss = {'metric': 'dev/loss', 'best': {'dev/loss': 1.5}}
  assert scores.entry([run(0, 0) | loss]) == '1.500 (n 1)'


def test_a_difference_beyond_the_spreads_is_bold():
  assert scores.beside('89.7±.7', []) == '89.7±.7'
  assert scores.beside('89.7±.7', [89.5, 90.5]) == '89.7±.7, ours 90.0 ± 0.7 (+0.3)'
  assert scores.beside('89.7±.7', [88.0, 88.2]) == '89.7±.7, ours 88.1 ± 0.1 (**-1.6**)'
  assert scores.beside('8.85±.02', [8.9]) == '8.85±.02, ours 8.90 (**+0.05**)'
  apart = scores.beside('89.7±.7', [90.0], [], [80.0])
  assert apart == '89.7±.7, ours 90.0 (+0.3) / 80.0 (**-9.7**)'


def test_the_detail_of_an_entry():
  row = scores.detail({'task': 'mrpc'}, [run(0, 0.8), run(1, 0.9)])
  assert row == {
    'task': 'mrpc',
    'mean': '85.0 ± 7.1',
    'median': '85.0',
    'last epoch': '75.0 ± 7.1',
    'seeds': '0, 1',
    'trained (without head)': '3,000 (1,000)',
    'minutes': '2.0',
    'device': '1 x cpu (2 x x86_64)',
    'commit': 'a' * 10,
  }


def test_a_score_that_says_nothing_is_marked():
  good, constant = run(0, 0.8), run(1, 0.0)
  constant['best']['dev/constant'] = 1.0
  diverged = run(2, 0.0, last={'dev/accuracy': 0.0, 'train/loss': 6.7e14})
  lost = run(3, 0.0, last={'dev/accuracy': 0.0, 'dev/loss': float('nan')})
  every = [good, constant, diverged, lost]
  assert [scores.fault(one) for one in every] == ['', 'constant', 'diverged', 'diverged']
  assert scores.entry(every).endswith(' (1 of 4 constant, 2 of 4 diverged)')
  assert scores.entry([constant]) == '0.0 (n 1) (constant)'
  assert scores.detail({}, [good, constant])['mean'].endswith(' (1 of 2 constant)')


def test_the_best_is_bold_and_what_the_spreads_do_not_tell_from_it():
  texts, values = ['a', 'b', 'c', '-'], [[80.0, 82.0], [83.0, 85.0], [70.0], []]
  assert scores.bold(texts, values, 'dev/accuracy') == ['a', '**b**', 'c', '-']
  assert scores.bold(texts, [[82.0, 84.0], *values[1:]], 'bleu') == ['**a**', '**b**', 'c', '-']
  assert scores.bold(texts, values, 'dev/loss') == ['a', 'b', '**c**', '-']
  assert scores.bold(['a', '-'], [[1.0], []], 'bleu') == ['a', '-']  # Alone it is no best.


def test_what_does_not_exceed_one_prediction_for_all_is_at_chance():
  found = {'constants': {'mrpc': {'metric': 'accuracy', 'score': 0.68}}}
  levels = scores.constants([found])
  assert scores.constant(run(0, 0.7), levels) == 68.0
  assert scores.constant(run(0, 0.7, task='rte'), levels) is None
  assert scores.entry([run(0, 0.67)], levels) == '67.0 (n 1), at chance'
  assert scores.entry([run(0, 0.66), run(1, 0.72)], levels).endswith('at chance')
  assert scores.entry([run(0, 0.70), run(1, 0.71)], levels) == '70.5 ± 0.7'


def test_the_best_rate_is_compared_on_the_seeds_that_all_rates_have():
  at = lambda seed, best, lr: run(seed, best, config={'seed': seed, 'optim': {'lr': lr}})
  tried = [at(0, 0.8, 1e-3), at(0, 0.7, 1e-2), at(1, 0.99, 1e-2)]
  assert scores.rates_tried(tried) == ({1e-3: 80.0, 1e-2: 70.0}, [0])
  assert scores.at_best_rate(tried) == tried[:1] and scores.at_best_rate([]) == []
  # A second run of one seed is no second seed.
  again = [*tried, at(0, 0.9, 1e-3)]
  assert scores.at_best_rate(again) == tried[:1]
  other = run(0, 0.5, method='full', config={'seed': 0, 'optim': {'lr': 1e-4}})
  assert scores.at_best_rates([*again, other]) == [tried[:1], [other]]


def test_of_two_runs_of_a_seed_the_one_counts_that_other_seeds_were_run_with():
  of = lambda seed, best, commit: run(seed, best, commit=commit)
  old, sweep = of(0, 0.9, 'a'), [of(1, 0.7, 'b'), of(0, 0.6, 'b')]
  assert scores.at_best_rate([old, *sweep]) == [sweep[1], sweep[0]]
  assert scores.rates_tried([old, *sweep])[0] == {runs.rate(old): 65.0}


def test_a_rate_at_which_a_seed_diverged_is_not_the_best():
  at = lambda seed, best, lr: run(seed, best, config={'seed': seed, 'optim': {'lr': lr}})
  found = [at(0, 0.8, 1e-3), at(1, 0.7, 1e-3), at(0, 0.9, 1e-2)]
  assert scores.at_best_rate(found) == found[2:]
  lost = [at(1, 0.0, 1e-2) | {'error': 'loss is nan'}, at(0, 0.0, 0.1) | {'error': 'loss is nan'}]
  runs.with_diverged(found, lost)
  assert scores.diverged(found) == {1e-2: 1, 0.1: 1}
  assert scores.at_best_rate(found) == found[:2]
  assert scores.entry(found[2:]) == '90.0 (n 1) (1 of 2 diverged)'
  assert scores.entry(found[:2]) == '75.0 ± 7.1'
  # One at every rate: the best is of what ended.
  runs.with_diverged(found, [*lost, at(2, 0.0, 1e-3)])
  assert scores.at_best_rate(found) == found[2:]
