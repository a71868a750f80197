"""The page of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping

from lora_jax.report import runs
from lora_jax.report.document import Block, Page, Table
from lora_jax.result_schema import Bench

ABOUT = """TFLOP is what XLA counts in the compiled step, where the body of a loop, such as layers
that are scanned, counts once, however often it runs."""


def pages(benches: Mapping[str, Bench]) -> list[Page]:
  """The page of every benchmark; none without one."""
  if not benches:
    return []
  blocks: list[Block] = [ABOUT]
  for path, bench in benches.items():
    blocks += [
      f'## {runs.machine(bench)} ({path})',
      f'Commit {bench["commit"][:10]}, median of {bench["rounds"]} rounds; ratios are to the row '
      f'that has 1, in one run.{_peers(bench)}',
    ]
    for title, rows in bench['measured'].items():
      blocks.append(Table(_rows(rows), f'**{title}**'))
      skipped = bench.get('skipped', {}).get(title, {})
      about = [bench.get('notes', {}).get(title, '')]
      about += [f'{name} was skipped: {reason}.' for name, reason in skipped.items()]
      blocks += [' '.join(filter(None, about))] if any(about) else []
  state = ', '.join(dict.fromkeys(map(runs.machine, benches.values())))
  return [Page('speed', 'Speed, size and serving', state, blocks)]


def _peers(bench: Bench) -> str:
  """The versions of the libraries that were measured beside this one."""
  versions = ', '.join(f'{name} {version}' for name, version in bench.get('peers', {}).items())
  return f' Beside {versions}.' if versions else ''


def _rows(rows: Mapping[str, Mapping[str, float]]) -> list[dict[str, str]]:
  """Rows that all have the columns of any: `-` where a variant has no such figure."""
  empty = dict.fromkeys((name for row in rows.values() for name in _texts(row)), '-')
  return [{'': name, **empty, **_texts(row)} for name, row in rows.items()]


# What a figure is called and divided by, where its name in the JSON does not say its unit.
UNITS = {
  'flops': ('TFLOP', 1e12),
  'peak_bytes': ('peak memory, MiB', 2**20),
  'bytes': ('MiB', 2**20),
  'bytes_of_heads': ('MiB of heads', 2**20),
  'seconds_ratio': ('seconds, ratio', 1),
  'flops_ratio': ('FLOP, ratio', 1),
  'peak_bytes_ratio': ('peak memory, ratio', 1),
}


def _texts(row: Mapping[str, float]) -> dict[str, str]:
  texts = {}
  for name, value in row.items():
    title, unit = UNITS.get(name, (name.replace('_', ' '), 1))
    shown = value if unit == 1 else value / unit
    texts[title] = f'{shown:,}' if isinstance(shown, int) else f'{shown:.4g}'
  return texts
