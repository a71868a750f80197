"""The overrides of a sweep, which its config file yields."""

from __future__ import annotations

import inspect
import re
import runpy
from collections.abc import Iterable, Mapping


def read_overrides(path: str, arg: str) -> Iterable[Mapping[str, object]]:
  """What the function `sweep` of a config file yields, one mapping for each run.

  Args:
    path: the config file.
    arg: the text after the colon of `--config=FILE:ARG`, for a `sweep` that has a parameter `arg`.

  Raises:
    ValueError: if the file has no such function.
  """
  sweep = runpy.run_path(path).get('sweep')
  if sweep is None:
    raise ValueError(f'{path} has no sweep(): a generator of overrides, as in configs/rank.py')
  takes_arg = 'arg' in inspect.signature(sweep).parameters
  return sweep(arg or None) if takes_arg else sweep()


def parse_shard(text: str) -> tuple[int, int]:
  """(i, n) of `i/n`.

  Raises:
    ValueError: for another form, or if i is not in [0, n).
  """
  found = re.fullmatch(r'(\d+)/(\d+)', text)
  if not found or int(found[1]) >= int(found[2]):
    raise ValueError(f'--shard={text}: expected i/n with i from 0 to n - 1, as 0/2 and 1/2')
  return int(found[1]), int(found[2])
