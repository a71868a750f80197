"""Requests as lines of JSON: `parse` reads one, `windows` takes those that have arrived."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from lora_jax import files
from lora_jax.errors import nearest

KEYS = ('adapter', 'text', 'text_pair')
WAIT = 0.02  # Seconds without a further line after which the lines that have arrived are answered.


class Request(NamedTuple):
  """A text, or a pair of texts, and the name of the adapter to answer with."""

  adapter: str
  text: str
  text_pair: str | None


def parse(line: bytes) -> Request:
  """The request of a line, `{"adapter": "mrpc", "text": "...", "text_pair": "..."}`.

  Raises:
    ValueError: if the line is not a request, saying why.
  """
  try:
    values = files.parse_json(line.decode('utf-8-sig'))
  except ValueError as error:
    raise ValueError(f'not valid JSON ({error})') from None
  if not isinstance(values, dict):
    raise ValueError(f'expected an object with {", ".join(KEYS)}, found {type(values).__name__}')
  for key in values:
    if key not in KEYS:
      raise ValueError(f'unknown key {key!r}. {nearest(key, KEYS)}')
  pair = values.get('text_pair')
  for key in KEYS if pair is not None else KEYS[:2]:
    if key not in values:
      raise ValueError(f'no {key!r}: a request has adapter and text')
    if not isinstance(values[key], str):
      raise ValueError(f'{key!r} is {type(values[key]).__name__}, expected a string')
    try:
      values[key].encode()
    except UnicodeEncodeError:
      raise ValueError(f'{key!r} holds half of a surrogate pair') from None
  return Request(values['adapter'], values['text'], pair)


def windows(stream: BinaryIO, most: int, wait: float = WAIT) -> Iterator[list[bytes]]:
  """The lines that have arrived, at most `most` at a time.

  Waits for the first line of a window, and then until no further line arrives for `wait` seconds.
  """
  arrived: queue.Queue[bytes | OSError | None] = queue.Queue(2 * most)
  threading.Thread(target=_read, args=(stream, arrived), daemon=True).start()
  lines: list[bytes] = []
  while True:
    try:
      line = arrived.get(timeout=wait if lines else None)
    except queue.Empty:
      line = b''  # Nothing for now: a line of the stream is never empty.
    if isinstance(line, OSError):
      raise line
    if line:
      lines.append(line)
    if lines and (not line or len(lines) == most):
      yield lines
      lines = []
    if line is None:
      return


def _read(stream: BinaryIO, arrived: queue.Queue[bytes | OSError | None]) -> None:
  """Puts the lines of a stream into a queue, then None, or the error that ended it."""
  try:
    for line in stream:
      arrived.put(line)
    arrived.put(None)
  except OSError as error:
    arrived.put(error)
