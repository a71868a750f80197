"""What a run shows: what is compiled, on a terminal and elsewhere, numbers, a table at the end."""

import io

import pytest

from lora_jax.train.display import Display, number, numbers, table
from tests.train.test_writers import Terminal


def test_a_terminal_shows_what_is_compiled_until_the_next_step():
  stream = Terminal()
  shown = Display(10, stream=stream)
  shown.compiling('training, 8 x 128 tokens')
  assert '0/10' in stream.getvalue() and 'compiling training, 8 x 128 tokens' in stream.getvalue()
  before = len(stream.getvalue())
  shown.progress(10, 0.5, 80)
  shown.close()
  assert 'compiling' not in stream.getvalue()[before:] and 'loss 0.5000' in stream.getvalue()


def test_elsewhere_it_is_one_line_before_the_first_step():
  stream = io.StringIO()
  shown = Display(10, stream=stream)
  shown.compiling('training, 8 x 128 tokens')
  shown.compiling('training, 4 x 128 tokens')
  shown.progress(1, 0.5, 8)
  shown.compiling('evaluation, 8 x 128 tokens')
  shown.show(1, 'dev/loss 0.5000')
  first, second = stream.getvalue().splitlines()
  assert first == 'compiling training, 8 x 128 tokens'
  assert second.startswith('step 1/10, dev/loss 0.5000, loss 0.5000')


@pytest.mark.parametrize(
  'value, text', [(0.75, '0.7500'), (9e-6, '9.0e-06'), (0.0, '0.0000'), (-12.5, '-12.5000')]
)
def test_a_small_number_is_not_shown_as_zero(value, text):
  assert number(value) == text and numbers({'x': value, 'y': value}) == f'x {text}, y {text}'


def test_nothing_is_colored(monkeypatch):
  """So `NO_COLOR` has nothing to switch off."""
  stream = Terminal()
  shown = Display(10, stream=stream)
  shown.progress(5, 0.5, 8)
  shown.show(5, 'dev/loss 0.5000')
  shown.close()
  assert '\x1b[3' not in stream.getvalue() and '\x1b[0' not in stream.getvalue()


def test_the_table_at_the_end_marks_the_best_evaluation():
  history = [{'step': step, 'dev/accuracy': step / 8} for step in (2, 4, 6)]
  assert table(history, history[1]).splitlines() == [
    'step   dev/accuracy',
    '   2         0.2500',
    '   4*        0.5000',
    '   6         0.7500',
  ]
