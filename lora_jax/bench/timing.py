"""Timing of variants in turn, and the shapes of model that they are measured on."""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Callable, Mapping

import jax

Row = dict[str, float]  # Figures by name; `seconds`, `bytes`, and ratios of them.
Rows = dict[str, Row]  # By variant.
SHAPES = {  # Published architectures; a fresh model of that shape is measured.
  'minilm': dict(hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536),
  'roberta-base': dict(hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072),
  'roberta-large': dict(hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096),
}


def seconds_of(run: Callable[[], object]) -> float:
  """Wall seconds of a call, its arrays waited for."""
  began = time.perf_counter()
  jax.block_until_ready(run())
  return time.perf_counter() - began


def in_turn(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
  """The median of the seconds that each variant returns, called round after round.

  Args:
    variants: by name.
    rounds: number of rounds that are counted, after one that is not.
  """
  times: dict[str, list[float]] = collections.defaultdict(list)
  for counted in range(-1, rounds):
    for name, measure in variants.items():
      seconds = measure()
      if counted >= 0:
        times[name].append(seconds)
  return {name: statistics.median(values) for name, values in times.items()}


def table(title: str, rows: Rows) -> str:
  """The rows as aligned text."""
  names = list(next(iter(rows.values())))
  lines = [f'{title:24}' + ''.join(f'{name:>18}' for name in names)]
  for row, values in rows.items():
    lines.append(f'{row:24}' + ''.join(f'{values[name]:18.4g}' for name in names))
  return '\n'.join(lines) + '\n'
