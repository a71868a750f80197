"""The table of a sweep marks the members whose score says nothing."""

from experiments import sweep
from tests.report.toys import run


def test_the_table_marks_what_diverged_and_what_is_constant():
  of = lambda best, loss: run(0, 0) | {'best': {'step': 3, **best}, 'last': {'train/loss': loss}}
  good = of({'dev/accuracy': 0.8}, 0.3)
  constant = of({'dev/accuracy': 0.0, 'dev/constant': 1.0}, 0.3)
  diverged = of({'dev/accuracy': 0.0}, 6.7e14)
  error = 'loss is nan at step 2.'
  named = {'lr=1': good, 'lr=10': constant, 'lr=1000': diverged, 'lr=9': {'error': error}}
  assert sweep.table(named).splitlines() == [
    'lr=1     0.8000 at step 3',
    'lr=10    0.0000 at step 3 (constant)',
    'lr=1000  0.0000 at step 3 (diverged)',
    f'lr=9     diverged: {error}',
  ]
  assert sweep.table({}) == ''
