"""Tables of published models: which run is of which row, and what would run the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lora_jax.report import measured, paper

MODELS = {
  'RoB-base': 'roberta-base', 'RoB-large': 'roberta-large', 'DeB-XXL': 'deberta-v2-xxlarge',
  'GPT-2 M': 'gpt2-medium', 'GPT-2 L': 'gpt2-large',
}  # fmt: skip
METHODS = {
  'FT': 'full', 'BitFit': 'bitfit', 'Adpt-D': 'adapter_d', 'Adpt-P': 'adapter_p',
  'Adpt-H': 'adapter_h', 'Adapter-H': 'adapter_h', 'Adapter-L': 'adapter_l',
  'FT-Top2': 'top_layers', 'PreLayer': 'prefix_layer', 'PrefLayer': 'prefix_layer',
  'Prefix': 'prefix_layer', 'PreEmbed': 'prefix_embed', 'PrefixEmbed': 'prefix_embed',
  'PrefixLayer': 'prefix_layer', 'LoRA': 'lora', 'LoRA+PE': 'lora+prefix_embed',
  'LoRA+PL': 'lora+prefix_layer',
}  # fmt: skip
QUOTED = 'quoted'
MARKS = """Quoted: taken by the paper from earlier work, without settings. Where ours stands beside
a value, the difference is in brackets, bold if larger than the paper's spread and ours together."""
HOW = """What was not run (DIR holds the official archives; for SEED put 0, 1, ...):"""
Row = Mapping[str, str]


def key(table: str, row: Row) -> str:
  """`2/roberta-base/lora/0.3`, `.../dagger`: a row by our names, its parameters in millions."""
  name, dagger = row['method'].rstrip('*†'), row['method'].endswith('†')
  parts = [table, MODELS[row['model']], METHODS[name], f'{paper.millions(row["params"]):g}']
  return '/'.join(parts + ['dagger'] * dagger)


def row_of(table: str, run: Mapping[str, Any]) -> Row | None:
  """The row of a run of one of the paper's models: that of its method with the nearest count."""
  rows = [
    row
    for row in paper.TABLES[table].rows
    if MODELS[row['model']] == measured.short(run['model'])
    and METHODS[row['method'].rstrip('*†')] == run['method']
    and row['method'].endswith('†') == run['cell'].endswith('†')
  ]
  trained = run['parameters']['trainable_without_head'] / 1e6
  return min(rows, key=lambda row: abs(paper.millions(row['params']) - trained), default=None)


def rows(
  table: str,
  columns: Sequence[str],
  values: Callable[[Row, str], list[float]],
  commands: Mapping[str, str],
) -> list[dict[str, str]]:
  """The paper's rows; ours beside a value where `values` has some of the cell, else `not run`."""
  shown = []
  for row in paper.TABLES[table].rows:
    own = {column: values(row, column) for column in columns}
    done = sum(map(bool, own.values()))
    state = 'not run' if key(table, row) in commands else QUOTED
    if done:
      state = 'run' if done == len(columns) else f'{done} of {len(columns)} run'
    beside = {column: measured.beside(row[column], own[column]) for column in columns}
    shown.append({**row, **beside, 'ours': state})
  return shown


def missing(table: str, commands: Mapping[str, str], shown: Iterable[Row]) -> list[str]:
  """Commands of the rows that were not run in whole and have one."""
  printed = zip(paper.TABLES[table].rows, shown)
  keys = [key(table, row) for row, one in printed if one['ours'] not in ('run', QUOTED)]
  return [commands[name] for name in keys]
