"""What a run leaves behind while it goes: metrics.jsonl, TensorBoard events, a progress display.

`metrics.jsonl` holds one object per line, `{"step": 120, "train/loss": 0.41, ...}`. JSON has no NaN
and no infinity: all files here hold them as the strings "nan", "inf", "-inf", as `float` reads.
"""

import json
import math
import os
import pathlib
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

import tqdm
from tensorboardX import event_file_writer, record_writer, summary
from tensorboardX.proto import event_pb2

from lora_jax.train import paths

LINE_SECONDS = 60  # Between two lines of progress where there is no terminal.
NUMBERS = re.compile(r'\[\s+(-?\d[^"{}\[\]]*?)\s+\]')  # A list of numbers as `json` indents it.


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
  """Writes a file that is always whole: the old one until the new one is on the disk.

  Its folder is made: what took an hour to measure is not lost for want of one.
  It is indented, but a list of numbers stands on one line: a map of 64 x 64 has 64.
  """
  text = json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False)
  write_text(path, NUMBERS.sub(lambda found: f'[{" ".join(found[1].split())}]', text) + '\n')


def write_text(path: str | os.PathLike, text: str) -> None:
  """As `write_json`, for text."""
  path = paths.path_of(path)
  if paths.on_bucket(path):
    path.write_text(text)
    return
  path.parent.mkdir(parents=True, exist_ok=True)
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
  path = paths.path_of(path)
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


class _Lines:
  """The lines of a file, in it when `add` returns: on a bucket it is written anew each time."""

  def __init__(self, path: pathlib.Path):
    self._path = path
    self._file = None
    if paths.on_bucket(path):
      self._text = path.read_text() if path.exists() else ''
    else:
      self._file = open(path, 'a', encoding='utf-8')  # noqa: SIM115

  def add(self, line: str) -> None:
    if self._file:
      self._file.write(line)
      self._file.flush()
    else:
      self._text += line
      self._path.write_text(self._text)

  def close(self) -> None:
    if self._file:
      self._file.close()


class _Events:
  """TensorBoard's events, in a new file of a folder when `flush` returns."""

  def __init__(self, folder: pathlib.Path, purge_step: int):
    record_writer.directory_check(str(folder))
    suffix = f'.{time.time_ns()}'  # Else a run resumed within a second overwrites.
    self._file = event_file_writer.EventsWriter(str(folder / 'events'), suffix)
    self.add(purge_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
    self.flush = self._file.flush
    self.close = self._file.close

  def add(self, step: int, **what: Any) -> None:
    self._file.write_event(event_pb2.Event(wall_time=time.time(), step=step, **what))


class _Records:
  """A file of events on a bucket, written anew at each flush."""

  def __init__(self, path: str):
    self._path, self._data = paths.path_of(path), b''

  def write(self, data: bytes) -> None:
    self._data += data

  def flush(self) -> None:
    self._path.write_bytes(self._data)

  close = flush


class _RecordsOnBuckets:
  """How tensorboardX opens files of buckets: as all others here are."""

  open = staticmethod(_Records)
  directory_check = staticmethod(lambda folder: None)


record_writer.register_writer_factory('gs', _RecordsOnBuckets)


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
    workdir = paths.path_of(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    last = -1 if resume_step is None else resume_step
    truncate(workdir / 'metrics.jsonl', last)
    self._lines = _Lines(workdir / 'metrics.jsonl')
    self._events = _Events(workdir / 'tensorboard', purge_step=last + 1)
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
    self._lines.add(json.dumps(to_json({'step': step, **metrics}), allow_nan=False) + '\n')
    for name, value in metrics.items():
      self._events.add(step, summary=summary.scalar(name, float(value)))

  def write_texts(self, step: int, texts: Sequence[Mapping[str, str]]) -> None:
    """Adds examples to the TensorBoard events: the values of each under their names."""
    if not self._active:
      return
    for number, example in enumerate(texts):
      lines = [f'**{name}**: {value}' for name, value in example.items()]
      text = summary.text(f'examples/{number}', '  \n'.join(lines))
      self._events.add(step, summary=text)

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
