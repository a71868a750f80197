"""Timing of variants in turn, and the shapes of model that they are measured on."""

from __future__ import annotations

import collections
import dataclasses
import statistics
import time
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from lora_jax.models import presets

Row = dict[str, float]  # Figures by name; `seconds`, `bytes`, and ratios of them.
Rows = dict[str, Row]  # By variant.
SHAPES: dict[str, presets.Config] = {  # A fresh model of the shape is measured.
  **{name: preset.config for name, preset in presets.PRESETS.items()},
  'minilm': presets.architecture('bert', hidden_size=384, num_layers=6),
  'toy-roberta': presets.architecture(
    'roberta', vocab_size=512, hidden_size=32, num_layers=2, num_heads=2
  ),
  'toy-deberta': presets.architecture(
    'deberta-v2', vocab_size=512, hidden_size=32, num_layers=2, num_heads=2
  ),
  'toy-gpt2': presets.architecture(
    'gpt2', vocab_size=512, hidden_size=32, num_layers=2, num_heads=2
  ),
  'toy-llama': presets.architecture(
    'llama',
    vocab_size=512,
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_width=16,
    intermediate_size=64,
  ),
}


def parse_shape(text: str) -> tuple[str, int, int]:
  """The name, the rows and the length of a batch that is written as `roberta-base:32x128`.

  Raises:
    ValueError: for a text of another form.
  """
  model, _, size = text.partition(':')
  rows, _, length = size.partition('x')
  if not (rows.isdigit() and length.isdigit()):
    raise ValueError(f'--shapes has {text!r}; expected MODEL:ROWSxLENGTH, as roberta-base:32x128')
  return model, int(rows), int(length)


class Measured(NamedTuple):
  """A table of figures.

  Attributes:
    rows: the figures of each variant.
    note: their units, and what they mean, in a sentence or two.
    skipped: why a variant has no row, by its name.
  """

  rows: Rows
  note: str
  skipped: Mapping[str, str] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounds:
  """How often a train step is timed.

  On an accelerator a step takes milliseconds, and is dispatched while the one before it runs; so
  several are timed together, and the results of the last are waited for.

  Attributes:
    count: rounds of which the median is taken, after one that is not counted.
    dispatches: calls of the program in a round.
    steps_per_call: updates of a call, in a loop inside of the program.
  """

  count: int = 5
  dispatches: int = 1
  steps_per_call: int = 1

  def __str__(self) -> str:
    return (
      f'the median of {self.count} rounds of {self.dispatches} x {self.steps_per_call} steps '
      '(dispatches x steps of a dispatch)'
    )


def seconds_of(run: Callable[[], object], calls: int = 1) -> float:
  """Wall seconds of a call, the arrays of the last call waited for."""
  began = time.perf_counter()
  last: object = None
  for _ in range(calls):
    last = run()
  jax.block_until_ready(last)
  return (time.perf_counter() - began) / calls


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


def table(title: str, measured: Measured) -> str:
  """The rows as aligned text, what was skipped, and what the figures mean."""
  rows = measured.rows
  names = list(dict.fromkeys(name for row in rows.values() for name in row))
  widths = [max(14, len(name) + 2) for name in names]
  first = max(24, len(title) + 2, *(len(row) + 2 for row in rows)) if rows else 24
  lines = [f'{title:{first}}' + ''.join(f'{name:>{w}}' for name, w in zip(names, widths))]
  for row, values in rows.items():
    texts = (f'{values[name]:.4g}' if name in values else '-' for name in names)
    lines.append(f'{row:{first}}' + ''.join(f'{text:>{w}}' for text, w in zip(texts, widths)))
  lines += [f'{name}: skipped: {reason}' for name, reason in measured.skipped.items()]
  return '\n'.join((*lines, measured.note)) + '\n'
