"""What a run shows: what is compiled, on a terminal and elsewhere, numbers, a table at the end."""

import io

import pytest

from lora_jax.train import display
from lora_jax.train.display import Decoding, Display, number, numbers, table
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


def test_decoding_is_a_bar_on_a_terminal_and_a_line_a_minute_elsewhere(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(display.time, 'monotonic', lambda: now[0])
  stream, terminal = io.StringIO(), Terminal()
  shown, bar = Decoding(stream), Decoding(terminal)
  for done, seconds in [(0, 0), (10, 50), (20, 50), (25, 5), (50, 70), (100, 100)]:
    now[0] += seconds
    shown(done, 100)
    bar(done, 100)
  lines = ['decoded 20/100 contexts, 06:40 left', 'decoded 50/100 contexts, 02:55 left']
  assert stream.getvalue().splitlines() == lines
  shown = Decoding(stream)  # Of a process that goes on after another one.
  for done in (60, 70, 100):
    shown(done, 100)
    now[0] += 60
  assert stream.getvalue().splitlines() == [*lines, 'decoded 70/100 contexts, 03:00 left']
  assert 'decoding' in terminal.getvalue() and 'decoded' not in terminal.getvalue()
  assert '0/100' in terminal.getvalue()


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
