"""What a run writes while it trains: metrics.jsonl, TensorBoard events, a progress display.

`metrics.jsonl` holds one object per line: the evaluations, `{"step": 120, "dev/loss": 0.4, ...}`,
and between them the points of the training curve, `{"step": 110, "curve/loss": 0.4, ...}`. JSON has
no NaN and no infinity, so all JSON files hold them as the strings "nan", "inf", "-inf", which
`float` reads.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from tensorboardX import event_file_writer, record_writer, summary
from tensorboardX.proto import event_pb2

from lora_jax import files
from lora_jax.train import display, paths

NUMBERS = re.compile(r'\[\s+(-?\d[^"{}\[\]]*?)\s+\]')  # A list of numbers as `json` indents it.
_PROTO: Any = event_pb2  # protobuf makes its classes at run time.


def to_json(value: Any) -> Any:
  """The value in JSON's types: arrays as lists, floats that are not finite as strings."""
  if isinstance(value, Mapping):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [to_json(item) for item in value]
  if hasattr(value, 'tolist'):
    return to_json(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def write_json(path: str | os.PathLike[str], value: object) -> None:
  """Writes a value as indented JSON; as `write_text`.

  A list of numbers stands on one line, so a map of 64 x 64 takes 64 lines.
  """
  text = json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False)
  write_text(path, NUMBERS.sub(lambda found: f'[{" ".join(found[1].split())}]', text) + '\n')


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file, which a reader sees in its old form or the new one, never in between.

  Its folder is made if it does not exist, so that no result is lost.
  """
  path = paths.path_of(path)
  if paths.on_bucket(path):
    path.write_text(text, encoding='utf-8')
  else:
    files.write_atomic(path, text)


def line(record: Mapping[str, float]) -> str:
  """A line of `metrics.jsonl`."""
  return json.dumps(to_json(record), allow_nan=False) + '\n'


class _Lines:
  """The lines of a file; a line is in the file when `add` returns.

  A file on a bucket is written anew for each line, but for one that may `wait` for the next.
  """

  def __init__(self, path: pathlib.Path):
    self._path = path
    self._file = None
    if paths.on_bucket(path):
      self._text = path.read_text(encoding='utf-8') if path.exists() else ''
    else:
      self._file = open(path, 'a', encoding='utf-8')  # noqa: SIM115

  def add(self, line: str, *, wait: bool = False) -> None:
    if self._file:
      with files.naming(self._path):
        self._file.write(line)
        self._file.flush()
    else:
      self._text += line
      if not wait:
        self._path.write_text(self._text, encoding='utf-8')

  def close(self) -> None:
    if self._file:
      with files.naming(self._path):
        self._file.close()


class _Events:
  """TensorBoard's events, in a new file of a folder; they are in it when `flush` returns."""

  def __init__(self, folder: pathlib.Path, purge_step: int):
    if paths.on_bucket(folder):
      record_writer.register_writer_factory('gs', _RecordsOnBuckets)
    record_writer.directory_check(str(folder))
    # With a suffix of seconds, a run that is resumed within one would overwrite its file.
    suffix = f'.{time.time_ns()}'
    self._path = folder / 'events'
    with files.naming(self._path):
      self._file = event_file_writer.EventsWriter(str(self._path), suffix)
    self.add(purge_step, session_log=_PROTO.SessionLog(status=_PROTO.SessionLog.START))

  def add(self, step: int, **values: object) -> None:
    """Adds an event with these fields."""
    with files.naming(self._path):
      self._file.write_event(_PROTO.Event(wall_time=time.time(), step=step, **values))

  def flush(self) -> None:
    with files.naming(self._path):
      self._file.flush()

  def close(self) -> None:
    with files.naming(self._path):
      self._file.close()


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
  """How tensorboardX is to open files on buckets: through `paths`, like all other files."""

  open = staticmethod(_Records)
  directory_check = staticmethod(lambda folder: None)


class Writer:
  """Writes a run's metrics; on hosts other than the first (`active=False`) it does nothing.

  Args:
    workdir: the run directory, which is made if it does not exist.
    total_steps: the number of the run's last step.
    resume_step: the step of the checkpoint from which the run resumes; 0 for a run from the start.
    entries: the lines up to there. `metrics.jsonl` is written anew from them, so that it holds no
      later ones, which come again, and nothing that was damaged meanwhile.
    active: whether this host writes.
    stream: where progress is shown; None for standard error.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    *,
    total_steps: int,
    resume_step: int = 0,
    entries: Sequence[Mapping[str, float]] = (),
    active: bool = True,
    stream: TextIO | None = None,
  ):
    self._active = active
    if not active:
      return
    workdir = paths.path_of(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / 'metrics.jsonl', ''.join(line(record) for record in entries))
    self._lines = _Lines(workdir / 'metrics.jsonl')
    self._events = _Events(workdir / 'tensorboard', purge_step=resume_step and resume_step + 1)
    self._display = display.Display(total_steps, resume_step, stream)

  def write(self, step: int, metrics: Mapping[str, float], *, wait: bool = False) -> None:
    """Adds one record; it is in the file when this returns, or may on a bucket `wait`."""
    if not self._active:
      return
    self._lines.add(line({'step': step, **metrics}), wait=wait)
    for name, value in metrics.items():
      self._events.add(step, summary=summary.scalar(name, float(value)))

  def write_point(self, entry: Mapping[str, float]) -> None:
    """Adds a record that holds its step: a point of the training curve, of which there are many."""
    metrics = {name: value for name, value in entry.items() if name != 'step'}
    self.write(int(entry['step']), metrics, wait=True)

  def write_texts(self, step: int, texts: Sequence[Mapping[str, str]]) -> None:
    """Adds texts to the TensorBoard events: of each example its values, with their names."""
    if not self._active:
      return
    for number, example in enumerate(texts):
      lines = [f'**{name}**: {value}' for name, value in example.items()]
      text = summary.text(f'examples/{number}', '  \n'.join(lines))
      self._events.add(step, summary=text)

  def progress(self, step: int, loss: float, examples: int) -> None:
    """Moves the display, see `Display.progress`."""
    if self._active:
      self._display.progress(step, loss, examples)

  def compiling(self, what: str) -> None:
    """Displays what is being compiled."""
    if self._active:
      self._display.compiling(what)

  def show(self, step: int, metrics: Mapping[str, float]) -> None:
    """Prints the metrics of an evaluation as one line."""
    if not self._active:
      return
    self._events.flush()
    self._display.show(step, display.numbers(metrics))

  def close(self) -> None:
    """Flushes and closes all files; may be called twice."""
    if self._active:
      self._active = False
      self._display.close()
      self._lines.close()
      self._events.close()

  def __enter__(self) -> Writer:
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()
