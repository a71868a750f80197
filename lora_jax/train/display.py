"""What a run shows while it trains or decodes: a bar on a terminal, lines elsewhere, no colors.

The bar has the last loss, examples a second and the time left, or says what is being compiled.
Without a terminal there is a line for each evaluation, one for the first program that is compiled,
and between two of them one a minute; of decoding, one a minute.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

import tqdm

LINE_SECONDS = 60  # Time between two lines of progress, if there is no terminal.
RATE_SECONDS = 0.5  # Least time of a rate: two updates may be reported at once.
MOST_ROWS = 12  # Of a table.
SMALL = 1e-3  # Numbers below are shown with an exponent.
FORM = '{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]'


class Display:
  """Shows how far a run, or a group of a sweep, has come.

  Args:
    total_steps: the number of the last step.
    first_step: the step that the run resumes from; 0 for a run from the start.
    stream: where it is shown; None for standard error.
  """

  def __init__(self, total_steps: int, first_step: int = 0, stream: TextIO | None = None):
    self._stream = stream or sys.stderr
    self._total, self._start = total_steps, first_step
    self._began = self._printed = time.monotonic()
    self._seen: list[tuple[float, int]] = []  # Time and examples of two earlier calls.
    self._status = ''
    self._bar = tqdm.tqdm(
      total=total_steps,
      initial=first_step,
      file=self._stream,
      disable=not self._stream.isatty(),
      bar_format=FORM,
      dynamic_ncols=True,
    )

  def progress(self, step: int, loss: float, examples: int) -> None:
    """Moves the bar; the rate is the growth of `examples`, a running total, in a second or so."""
    now = time.monotonic()
    self._status = f'loss {loss:.4f}'
    if not self._seen or now - self._seen[-1][0] >= RATE_SECONDS:
      self._seen = [*self._seen[-1:], (now, examples)]
    if now - (then := self._seen[0])[0] >= RATE_SECONDS:
      self._status += f', {(examples - then[1]) / (now - then[0]):.1f} examples/s'
    self._bar.set_postfix_str(self._status, refresh=False)
    self._bar.update(step - self._bar.n)
    if self._bar.disable and now - self._printed >= LINE_SECONDS:
      self.show(step, '')

  def compiling(self, what: str) -> None:
    """Says in the bar, or before the first step in a line, what is being compiled."""
    if not self._bar.disable:
      self._bar.set_postfix_str(f'compiling {what}')
    elif not self._seen and self._printed == self._began:
      self.line(f'compiling {what}')

  def show(self, step: int, text: str) -> None:
    """Shows a line about a step; without a terminal, with the last loss and the time left."""
    parts = [f'step {step}/{self._total}', text]
    if self._bar.disable:
      parts += [self._status, self._left(step)]
    self.line(', '.join(filter(None, parts)))

  def line(self, text: str) -> None:
    """Shows a line."""
    if self._bar.disable:
      print(text, file=self._stream, flush=True)
    else:
      self._bar.write(text, file=self._stream)
    self._printed = time.monotonic()

  def close(self) -> None:
    """Ends the bar."""
    self._bar.close()

  def _left(self, step: int) -> str:
    return _left(self._began, step - self._start, self._total - self._start)


class Decoding:
  """Shows how many of a decoding's contexts are done.

  Args:
    stream: where it is shown; None for standard error.
  """

  def __init__(self, stream: TextIO | None = None):
    self._stream = stream or sys.stderr
    self._bar: tqdm.tqdm | None = None
    self._began = self._printed = time.monotonic()
    self._start = 0

  def __call__(self, done: int, total: int) -> None:
    """Shows it; the first call has what was decoded before, the last one `total`."""
    now = time.monotonic()
    if self._bar is None:
      off = not self._stream.isatty()
      self._bar = tqdm.tqdm(
        total=total,
        initial=done,
        file=self._stream,
        disable=off,
        desc='decoding',
        leave=False,
        unit='contexts',
      )
      self._began, self._start = now, done
    self._bar.update(done - self._bar.n)
    if done == total:
      self._bar.close()
    elif self._bar.disable and now - self._printed >= LINE_SECONDS:
      text = f'decoded {done}/{total} contexts, {self._left(done, total)}'
      print(text, file=self._stream, flush=True)
      self._printed = now

  def _left(self, done: int, total: int) -> str:
    return _left(self._began, done - self._start, total - self._start)


def _left(began: float, done: int, total: int) -> str:
  """`05:10 left` at the rate since `began`; '' before the first and after the last step."""
  if not 0 < done < total:
    return ''
  seconds = (time.monotonic() - began) * (total - done) / done
  return f'{tqdm.tqdm.format_interval(seconds)} left'


def numbers(metrics: Mapping[str, float]) -> str:
  """`dev/accuracy 0.7500, train/learning_rate 9.0e-06`."""
  return ', '.join(f'{name} {number(float(value))}' for name, value in metrics.items())


def number(value: float) -> str:
  """A number with four decimals, or with an exponent if these would hide it."""
  return f'{value:.1e}' if 0 < abs(value) < SMALL else f'{value:.4f}'


def table(evaluations: Sequence[Mapping[str, float]], best: Mapping[str, float]) -> str:
  """The last evaluations as a table, the best one marked by a star."""
  names = [name for name in best if name != 'step']
  rows = [
    [f'{entry["step"]:.0f}{"*" if entry == best else " "}']
    + [number(float(entry.get(name, math.nan))) for name in names]
    for entry in evaluations[-MOST_ROWS:]
  ]
  widths = [max(map(len, column)) for column in zip(['step ', *names], *rows, strict=True)]
  lines = [['step ', *names], *rows]
  return '\n'.join(
    '  '.join(f'{entry:>{width}}' for entry, width in zip(line, widths)) for line in lines
  )
