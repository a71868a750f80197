"""The texts that a decoding has finished so far, in a file, so that a killed one goes on there."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from lora_jax import files, tree
from lora_jax.adapters import fingerprint
from lora_jax.generation import Generated, Settings
from lora_jax.train import hosts, paths, writers

END = '.partial'  # Of the file's name.
SECONDS = 10  # Between two writings: each writes the whole file, as a bucket needs it.


class PartialTexts:
  """Keeps texts beside the file that gets all of them: in `predictions-test.txt.partial`.

  Several processes that decode together keep nothing.

  Attributes:
    path: the file that all texts are written to at the end.
    seconds: that went into the texts which were read.
  """

  def __init__(self, path: Path):
    self.path = path
    self.seconds = 0.0
    self._file = path.with_name(path.name + END)
    self._key = ''
    self._began = self._written = time.monotonic()

  def check_new(self) -> None:
    """Raises a FileExistsError if the texts are there already, unless their scoring was cut off."""
    if hosts.is_first() and self.path.exists() and not self._file.exists():
      raise FileExistsError(f'{self.path} exists already. Name a new file, or remove this one.')

  def read(
    self, settings: Settings, params: Sequence[tree.Params], prompts: Sequence[np.ndarray]
  ) -> dict[int, Generated]:
    """The texts that an earlier process decoded of these prompts, by the number of their prompt.

    None are read where the settings, the model or the prompts were others, nor from a damaged file.
    """
    self._began = time.monotonic()
    if jax.process_count() > 1:
      return {}
    self._key = _digest(settings, params, prompts)
    if not self._file.is_file():
      return {}
    try:
      found = files.read_object(self._file)
      if found['key'] != self._key:
        return {}
      texts = {
        int(i): Generated(np.asarray(tokens, np.int32), float(score))
        for i, (score, tokens) in found['texts'].items()
      }
      self.seconds = float(found['seconds'])
    except (ValueError, KeyError, TypeError, AttributeError):
      logging.warning('%s is damaged: all texts are decoded anew', self._file)
      return {}
    return texts

  def keep(self, texts: Mapping[int, Generated], total: int) -> None:
    """Writes the texts, if the last writing is `SECONDS` ago, or if they are all, `total`."""
    now = time.monotonic()
    if jax.process_count() > 1 or (len(texts) < total and now - self._written < SECONDS):
      return
    values = {
      'key': self._key,
      'seconds': self.seconds + now - self._began,
      'texts': {str(i): [one.score, one.tokens.tolist()] for i, one in texts.items()},
    }
    writers.write_text(self._file, json.dumps(values))
    self._written = now

  def remove(self) -> None:
    """Removes the file, when the scores of the texts are written, too."""
    if hosts.is_first():  # Of several processes, too: a single one may have left it.
      paths.remove(self._file)


def _digest(
  settings: Settings, params: Sequence[tree.Params], prompts: Sequence[np.ndarray]
) -> str:
  """A digest of what decides the texts: the decoder's settings, the model's values, the prompts.

  Of each parameter a sample counts, as in an adapter's fingerprint.
  """
  prints = [fingerprint.of_leaves(tree.flatten(nn.unbox(part))) for part in params]
  found = hashlib.sha256(repr((settings, prints)).encode())
  for prompt in prompts:
    found.update(repr(prompt.tolist()).encode())
  return found.hexdigest()
