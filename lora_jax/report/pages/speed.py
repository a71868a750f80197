"""The page of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping

from lora_jax.report import runs
from lora_jax.report.document import Block, Page, Table
from lora_jax.result_schema import Bench

def pages(benches: Mapping[str, Bench]) -> list[Page]:
  """The page of every benchmark; none without one."""
  if not benches:
    return []
  blocks: list[Block] = []
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
  empty = dict.fromkeys((name for row in rows.values() for name in row), '-')
  return [{'': name, **empty, **_texts(row)} for name, row in rows.items()]


def _texts(row: Mapping[str, float]) -> dict[str, str]:
  return {
    name: f'{value:,}' if isinstance(value, int) else f'{value:.4g}' for name, value in row.items()
  }
