"""What `experiments.demo` says and draws of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lora_jax.report import charts, document
from lora_jax.result_schema import RunResult


class LoraRun(NamedTuple):
  """A run of the sweep."""

  folder: Path
  matrices: str
  rank: int
  result: RunResult


class Row(NamedTuple):
  """A row of the table: the model before adaptation (`none`), `full`, or LoRA in all matrices."""

  method: str
  parameters: int
  loss: float
  seconds: float | None
  bleu: float
  examples: Sequence[Mapping[str, str]]


def text(rows: Sequence[Row], lora: Sequence[LoraRun]) -> str:
  """The tables, some generated texts, and a conclusion."""
  return '\n\n'.join([table(rows), grid(lora), samples(rows), conclusion(rows)]) + '\n'


def table(rows: Sequence[Row]) -> str:
  """The rows as aligned text."""
  everything = max(row.parameters for row in rows)
  return document.aligned_table(
    [
      {
        'method': row.method,
        'trained': f'{row.parameters:,}',
        'share': f'{row.parameters / everything:.1%}',
        'dev loss': f'{row.loss:.3f}',
        'BLEU': f'{100 * row.bleu:.1f}',
        'seconds': '-' if row.seconds is None else f'{row.seconds:.0f}',
      }
      for row in rows
    ]
  )


def grid(lora: Sequence[LoraRun]) -> str:
  """Dev loss by matrices and rank, as aligned text."""
  shown: dict[str, dict[str, str]] = {}
  for one in lora:
    row = shown.setdefault(one.matrices, {'LoRA, dev loss': one.matrices})
    row[f'r={one.rank}'] = f'{one.result["best"]["dev/loss"]:.3f}'
  return document.aligned_table(list(shown.values()))


def samples(rows: Sequence[Row]) -> str:
  """What the model before adaptation, the full and the best LoRA make of the example contexts."""
  before, full, *lora = rows
  lines = []
  for number, example in enumerate(before.examples):
    lines += ['', f'{"context":12}{example["context"]}']
    for row in (before, full, min(lora, key=lambda row: row.loss)):
      lines.append(f'{row.method:12}{row.examples[number]["generated"]}')
    lines.append(f'{"reference":12}{example["reference"]}')
  return '\n'.join(lines[1:])


def conclusion(rows: Sequence[Row]) -> str:
  """A sentence on how much of full fine-tuning's gain LoRA made, and one on what to do next."""
  before, full, *lora = rows
  best = min(lora, key=lambda row: row.loss)
  gain = before.loss - full.loss
  if gain > 0:
    made = f'made {(before.loss - best.loss) / gain:.0%} of the improvement of full fine-tuning'
  else:  # A run of a few steps, or a rate that is too high: there is nothing to have a share of.
    made = f'reached dev loss {best.loss:.3f}, where full fine-tuning made no improvement,'
  return (
    f'{best.method} {made} with {best.parameters / full.parameters:.1%} of its trained parameters. '
    'Next: adapt your own model (README.md, "Your own model").'
  )


def picture(rows: Sequence[Row], lora: Sequence[LoraRun]) -> charts.Picture:
  """Loss over trained parameters and over the rank."""
  before, full = rows[:2]
  ranks = sorted({one.rank for one in lora})
  by_size, by_rank = [], []
  for matrices in dict.fromkeys(one.matrices for one in lora):
    own = [one for one in lora if one.matrices == matrices]
    losses = [one.result['best']['dev/loss'] for one in own]
    sizes = [one.result['parameters']['trainable'] for one in own]
    by_size.append(charts.Series(f'LoRA, {matrices}', sizes, losses))
    by_rank.append(charts.Series(f'LoRA, {matrices}', [one.rank for one in own], losses))
  whole, size = charts.method('full').name, [full.parameters]
  by_size.append(charts.Series(whole, size, [full.loss], joined=False, method='full'))
  for name, method, row in ((whole, 'full', full), ('before adaptation', 'none', before)):
    by_rank.append(charts.Series(name, ranks, [row.loss] * len(ranks), method=method))
  y = 'dev loss, nats per token'
  panels = [
    charts.Panel('A small GPT-2 adapted to a new domain', 'trained parameters', y, by_size, 10),
    charts.Panel('the same, by rank', 'rank', y, by_rank, 2),
  ]
  return charts.chart('demo', 'loss by trained parameters and by rank', panels)
