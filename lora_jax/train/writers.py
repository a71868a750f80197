"""What a run leaves behind while it goes: metrics.jsonl, TensorBoard events, a progress display.

`metrics.jsonl` holds one object per line, `{"step": 120, "train/loss": 0.41, ...}`. JSON has no NaN
and no infinity: all files here hold them as the strings "nan", "inf", "-inf", as `float` reads.
"""

import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

import tensorboardX
import tqdm

LINE_SECONDS = 60  # Between two lines of progress where there is no terminal.


def to_json(value: Any) -> Any:
  """The value in JSON's own types: arrays as lists, non-finite floats as strings."""
  if isinstance(value, Mapping):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [to_json(item) for item in value]
  if hasattr(value, 'tolist'):
    return to_json(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes a file that is always whole: the old one until the new one is on the disk."""
  write_text(path, json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False) + '\n')


def write_text(path: str | os.PathLike, text: str) -> None:
  """As `write_json`, for text."""
  path = pathlib.Path(path)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    with open(part, 'w', encoding='utf-8') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


def truncate(path: str | os.PathLike, step: int) -> None:
  """Drops the lines of later steps than `step`, and a last line that a kill cut short.

  Raises:
    ValueError: on any other line that is not a record, naming file and line; nothing is changed.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return
  kept = []
  for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
    if not line.endswith(b'\n'):
      break
    try:
      if json.loads(line)['step'] <= step:
        kept.append(line)
    except (ValueError, TypeError, KeyError) as error:
      raise ValueError(
        f'{path}, line {number}: expected an object with a step, found {line[:80]!r}. '
        'Mend or remove the line.'
      ) from error
  write_text(path, b''.join(kept).decode())


class Writer:
  """Writes a run's metrics; on hosts other than the first (`active=False`) it does nothing.

  On a terminal a bar shows loss, examples/s and the time left; elsewhere each `show` is one line,
  and between two of them there is a line a minute.

  Args:
    workdir: the run directory; made if absent.
    total_steps: where the run ends.
    resume_step: the step of the checkpoint that the run goes on from, None for a run from the
      start. What was written about later steps is taken back, since those steps come again.
    active: whether this host writes.
    stream: of the display, standard error if None.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    *,
    total_steps: int,
    resume_step: int | None = None,
    active: bool = True,
    stream: IO[str] | None = None,
  ):
    self._active = active
    if not active:
      return
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    last = -1 if resume_step is None else resume_step
    truncate(workdir / 'metrics.jsonl', last)
    self._lines = open(workdir / 'metrics.jsonl', 'a', encoding='utf-8')  # noqa: SIM115
    self._events = tensorboardX.SummaryWriter(
      str(workdir / 'tensorboard'),
      purge_step=last + 1,
      filename_suffix=f'.{time.time_ns()}',  # Else a run resumed within a second overwrites.
    )
    self._stream = stream or sys.stderr
    self._total = total_steps
    self._start = max(last, 0)
    self._began = time.monotonic()
    self._seen = None  # When `progress` was last called, and its examples.
    self._status = ''
    self._printed = self._began
    self._bar = tqdm.tqdm(
      total=total_steps,
      initial=self._start,
      file=self._stream,
      disable=not self._stream.isatty(),
      bar_format='{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]',
      dynamic_ncols=True,
    )

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds one record; it is in the file when this returns."""
    if not self._active:
      return
    self._lines.write(json.dumps(to_json({'step': step, **metrics}), allow_nan=False) + '\n')
    self._lines.flush()
    for name, value in metrics.items():
      self._events.add_scalar(name, float(value), step)

  def write_texts(self, step: int, texts: Sequence[Mapping[str, str]]) -> None:
    """Adds examples to the TensorBoard events: the values of each under their names."""
    if not self._active:
      return
    for number, example in enumerate(texts):
      lines = [f'**{name}**: {value}' for name, value in example.items()]
      self._events.add_text(f'examples/{number}', '  \n'.join(lines), step)

  def progress(self, step: int, loss: float, examples: int) -> None:
    """Moves the bar; `examples` is a running count, its growth since the last call the rate."""
    if not self._active:
      return
    now = time.monotonic()
    self._status = f'loss {loss:.4f}'
    if self._seen:
      rate = (examples - self._seen[1]) / max(now - self._seen[0], 1e-9)
      self._status += f', {rate:.1f} examples/s'
    self._seen = (now, examples)
    self._bar.set_postfix_str(self._status, refresh=False)
    self._bar.update(step - self._bar.n)
    if self._bar.disable and now - self._printed >= LINE_SECONDS:
      self._print(step, [])

  def show(self, step: int, metrics: Mapping[str, float]) -> None:
    """Prints the metrics of an evaluation as one line."""
    if not self._active:
      return
    self._events.flush()
    self._print(step, [f'{name} {float(value):.4f}' for name, value in metrics.items()])

  def close(self) -> None:
    """Flushes and closes all; may be called twice."""
    if self._active:
      self._active = False
      self._bar.close()
      self._lines.close()
      self._events.close()

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def _print(self, step: int, parts: list[str]) -> None:
    parts = [f'step {step}/{self._total}', *parts]
    if self._bar.disable:
      parts += [part for part in (self._status, self._left(step)) if part]
      print(', '.join(parts), file=self._stream, flush=True)
      self._printed = time.monotonic()
    else:
      self._bar.write(', '.join(parts), file=self._stream)

  def _left(self, step: int) -> str:
    if step <= self._start or step >= self._total:
      return ''
    seconds = (time.monotonic() - self._began) * (self._total - step) / (step - self._start)
    return f'{tqdm.tqdm.format_interval(seconds)} left'
