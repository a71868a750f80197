"""What a checkpoint's directory holds beside its arrays: `step.json`, with a digest of each file.

It is written when all hosts have written their arrays, before the directory gets its name, so that
no checkpoint is without it. Checkpoints of older versions are: they hold `progress` and `metrics`
folders instead, and nothing tells whether their arrays are whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from lora_jax import files
from lora_jax.train import writers

NAME = 'step.json'
# Orbax writes these after step.json, and nothing that is restored depends on them.
COMMITTED = 'commit_success.txt'
_LATER = (NAME, COMMITTED, '_CHECKPOINT_METADATA')
_BLOCK = 1 << 20
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)  # A folder in place of a file, too.


class Damaged(ValueError):
  """A file of a checkpoint is missing, or is not what was written. The message names it."""


class Step(NamedTuple):
  """The host's part of a checkpoint.

  Attributes:
    progress: what the run knows of itself.
    score: of the evaluation at this step, higher is better; None where there was none.
    best: the step with the best score so far, which the end of the run needs; None for none.
    digests: the SHA-256 of each other file by its path; None for one of an older version.
  """

  progress: files.Json
  score: float | None
  best: int | None
  digests: Mapping[str, str] | None


def write(folder: Path, progress: str, score: float | None, best: int | None) -> None:
  """Writes `step.json` into a checkpoint's directory in which everything else is written.

  Args:
    folder: the directory.
    progress: a JSON text.
    score, best: see `Step`.
  """
  names = (str(path.relative_to(folder)) for path in _files(folder))
  content = {
    'digests': {name: digest(folder / name) for name in sorted(names) if name not in _LATER},
    'score': score,
    'best': best,
    'progress': json.loads(progress),
  }
  text = {'sha256': _digest_of(content), 'content': content}
  writers.write_text(folder / NAME, json.dumps(text))


def read(folder: Path) -> Step:
  """The host's part of a checkpoint; its arrays are not looked at.

  Raises:
    Damaged: if it is not what was written.
  """
  path = folder / NAME
  try:
    if not path.exists() and (folder / 'progress').exists():
      return _read_old(folder)
    text = files.read_object(path)
    content = cast(files.Json, text['content'])
    if _digest_of(content) != text['sha256']:
      raise Damaged(f'{path} is not what was written: its SHA-256 differs')
    return Step(content['progress'], content['score'], content['best'], content['digests'])
  except Damaged:
    raise
  except (ValueError, KeyError, TypeError) as error:
    raise Damaged(f'{path} is not what was written ({type(error).__name__}: {error})') from error
  except OSError as error:
    raise _damage(path, error) from error


def verify(folder: Path) -> Step:
  """As `read`, when every file was compared with its digest.

  Raises:
    Damaged: naming the first file that differs.
  """
  step = read(folder)
  for name, expected in (step.digests or {}).items():
    path = folder / name
    try:
      found = digest(path)
    except OSError as error:
      raise _damage(path, error) from error
    if found != expected:
      raise Damaged(f'{path} is not what was written: its SHA-256 differs')
  return step


def digest(path: Path) -> str:
  """The SHA-256 of a file, on a disk or a bucket, in hexadecimal digits."""
  found = hashlib.sha256()
  with path.open('rb') as file:
    while block := file.read(_BLOCK):
      found.update(block)
  return found.hexdigest()


def _read_old(folder: Path) -> Step:
  """The host's part as older versions wrote it: two JSON files, without digests."""
  metrics = folder / 'metrics' / 'metadata'
  score = cast(float, files.read_object(metrics)['score']) if metrics.exists() else None
  if score is not None and not math.isfinite(score):
    score = None
  return Step(files.read_object(folder / 'progress' / 'metadata'), score, None, None)


def _damage(path: Path, error: OSError) -> Exception:
  """What to raise for an error of reading: a file that is missing or that no disk reads is damage.

  Another one, such as that of a permission or a network, may be gone in a minute.
  """
  if error.errno in _GONE or isinstance(error, FileNotFoundError):
    return Damaged(f'{path} cannot be read: {error.strerror or error}')
  return OSError(error.errno, f'{path} cannot be read: {error.strerror or error}')


def _digest_of(content: object) -> str:
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
  for path in folder.iterdir():
    if path.is_dir():
      yield from _files(path)
    else:
      yield path
