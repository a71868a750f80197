"""What `experiments.demo` says and draws of its runs.

A row is of a method: its name, trained parameters, dev loss, BLEU, seconds, examples; the first two
are the model before adaptation and full fine-tuning. A run of the sweep is its `result.json`, with
its rank and matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use('Agg')

Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows) -> str:
  """The rows as aligned text."""
  everything = max(row['parameters'] for row in rows)
  lines = [f'{"method":12}{"trained":>10}{"share":>8}{"dev loss":>10}{"BLEU":>7}{"seconds":>9}']
  for row in rows:
    seconds = '-' if row['seconds'] is None else f'{row["seconds"]:.0f}'
    share = f'{row["parameters"] / everything:.1%}'
    lines.append(
      f'{row["method"]:12}{row["parameters"]:10,}{share:>8}{row["loss"]:10.3f}'
      f'{100 * row["bleu"]:7.1f}{seconds:>9}'
    )
  return '\n'.join(lines)


def grid(lora: Rows) -> str:
  """Dev loss by matrices and rank, as aligned text."""
  lines = [f'{"LoRA, dev loss":18}' + ''.join(f'{f"r={rank}":>10}' for rank in _all(lora, 'rank'))]
  for matrices in _all(lora, 'matrices'):
    losses = [one['best']['dev/loss'] for one in lora if one['matrices'] == matrices]
    lines.append(f'{matrices:18}' + ''.join(f'{loss:10.3f}' for loss in losses))
  return '\n'.join(lines)


def samples(rows: Rows) -> str:
  """What the model before adaptation, the full and the best LoRA make of three contexts."""
  before, full, *lora = rows
  lines = []
  for number, example in enumerate(before['examples']):
    lines += ['', f'{"context":12}{example["context"]}']
    for row in (before, full, min(lora, key=lambda row: row['loss'])):
      lines.append(f'{row["method"]:12}{row["examples"][number]["generated"]}')
    lines.append(f'{"reference":12}{example["reference"]}')
  return '\n'.join(lines[1:])


def draw(rows: Rows, lora: Rows, path: Path) -> None:
  """Loss over trained parameters and over the rank, the bounds as lines."""
  (before, full), ranks = rows[:2], _all(lora, 'rank')
  figure = Figure(figsize=(9, 3.8), layout='constrained')
  left, right = figure.subplots(1, 2, sharey=True)
  for axes in (left, right):
    axes.axhline(before['loss'], color='0.5', ls=':', label='before adaptation')
    axes.axhline(full['loss'], color='C3', ls='--', lw=1, label='full fine-tuning')
  left.plot(full['parameters'], full['loss'], 's', color='C3')
  for number, matrices in enumerate(_all(lora, 'matrices')):
    own = [one for one in lora if one['matrices'] == matrices]
    losses = [one['best']['dev/loss'] for one in own]
    style = dict(color=f'C{number}', marker='o', label=f'LoRA, {matrices}')
    left.plot([one['parameters']['trainable'] for one in own], losses, **style)
    right.plot([one['rank'] for one in own], losses, **style)
  left.set(xscale='log', xlabel='trained parameters', ylabel='dev loss, nats per token')
  right.set_xscale('log', base=2)
  right.set_xticks(ranks, map(str, ranks))
  right.minorticks_off()
  right.set_xlabel('rank')
  left.set_ylim(0, 1.1 * before['loss'])
  left.margins(x=0.15)
  right.margins(x=0.15)
  handles, labels = right.get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside lower center', ncols=5, fontsize=8, frameon=False)
  figure.suptitle('A small GPT-2 adapted to a new domain')
  figure.savefig(path, dpi=150)


def conclusion(rows: Rows) -> str:
  """What the numbers say, in a line: how much of full fine-tuning's gain LoRA made."""
  before, full, *lora = rows
  best = min(lora, key=lambda row: row['loss'])
  gain = (before['loss'] - best['loss']) / (before['loss'] - full['loss'])
  return (
    f'{best["method"]} made {gain:.0%} of the improvement of full fine-tuning with '
    f'{best["parameters"] / full["parameters"]:.1%} of its trained parameters. '
    'Next: adapt your own model (README.md, "Your own model").'
  )


def _all(lora: Rows, key: str) -> list[Any]:
  """The values of a key, in their order."""
  return list(dict.fromkeys(one[key] for one in lora))
