"""What every table of the results is made of: rows of text, spreads, the fields of a config."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, str]]) -> str:
  """Rows of equal keys as a Markdown table."""
  names = list(rows[0])
  lines = ['| ' + ' | '.join(names) + ' |', '|' + '---|' * len(names)]
  lines += ['| ' + ' | '.join(row[name] for name in names) + ' |' for row in rows]
  return '\n'.join(lines) + '\n'


def spread(values: Sequence[float], digits: int = 4) -> str:
  """Mean ± sample standard deviation; of one value, the value."""
  mean = f'{statistics.fmean(values):.{digits}f}'
  return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def leaves(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested fields by their dotted names."""
  found = {}
  for key, value in config.items():
    nested = isinstance(value, Mapping)
    found |= leaves(value, f'{prefix}{key}.') if nested else {f'{prefix}{key}': value}
  return found


def method(run: Mapping[str, Any]) -> str:
  """The method's name, and of LoRA the modules that it adapts: `lora (query, value)`."""
  targets = run['config'].get('method', {}).get('targets', ())
  names = [target.rpartition('/')[2].replace('|', ', ') for target in targets]  # | ends a cell.
  return ' '.join([run['method'], *names])
