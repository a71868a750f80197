"""Sentences that many errors share: the nearest known names, lists, and arrays that do not fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

Shape = tuple[int, ...]


class HasShape(Protocol):
  """An array, or the shape of one (`jax.ShapeDtypeStruct`)."""

  @property
  def shape(self) -> Shape: ...


def nearest(name: object, known: Iterable[object], cutoff: float = 0.5) -> str:
  """The end of an error about an unknown name: the names nearest to it, then all known ones.

      f'unknown method {name!r}. {nearest(name, METHODS)}'
      unknown method 'lroa'. Did you mean 'lora'? Known: full, lora, bitfit.

  Case and punctuation are ignored in the comparison: `RoBERTa_base` is near `roberta-base`. Names
  less similar than `cutoff`, in [0, 1], are not offered.
  """
  names = [str(other) for other in known]
  plain = lambda text: re.sub(r'[^a-z0-9]', '', text.lower())
  by_plain = {plain(text): text for text in reversed(names)}
  near = difflib.get_close_matches(plain(str(name)), by_plain, n=3, cutoff=cutoff)
  guess = f'Did you mean {" or ".join(repr(by_plain[key]) for key in near)}? ' if near else ''
  return f'{guess}Known: {listed(names, limit=40) or "none"}.'


def listed(items: Sequence[object], limit: int = 12) -> str:
  """Items for a message, separated by commas: the first `limit`, and the number of the others."""
  more = f' and {len(items) - limit} more' if len(items) > limit else ''
  return f'{", ".join(map(str, items[:limit]))}{more}'


def mismatches(
  expected: Mapping[str, Shape], found: Mapping[str, HasShape], limit: int = 12
) -> list[str]:
  """What differs between two sets of named arrays: missing, unexpected and misshapen ones.

  Args:
    expected: shapes by name.
    found: arrays or `jax.ShapeDtypeStruct`s by name.
    limit: names of each kind to list.

  Returns:
    a phrase for each kind that occurs; none if the two agree.
  """
  shapes = {name: tuple(array.shape) for name, array in found.items()}
  kinds = {
    'missing': [f'{name} {shape}' for name, shape in expected.items() if name not in shapes],
    'unexpected': [f'{name} {shape}' for name, shape in shapes.items() if name not in expected],
    'misshapen': [
      f'{name} is {shapes[name]}, expected {shape}'
      for name, shape in expected.items()
      if name in shapes and shapes[name] != shape
    ],
  }
  return [f'{kind} {listed(names, limit)}' for kind, names in kinds.items() if names]
