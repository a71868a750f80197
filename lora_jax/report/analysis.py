"""The page's sections on what LoRA learned, from the JSON of `experiments.analyse`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_jax.report import tables

COLUMNS = {'effective_rank': 'effective rank', 'stable_rank': 'stable rank', 'norm': '‖ΔW‖'}
ABOUT = """Of each layer's update ΔW, alpha / r in it: effective rank (exponential of the entropy of
the singular values), stable rank (‖ΔW‖² over the largest singular value's), Frobenius norm.
"""


def sections(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Markdown of every file whose experiment is `analysis`, its pictures beside the file."""
  parts = []
  for path, report in found.items():
    if report['experiment'] != 'analysis':
      continue
    runs = ', '.join(_about(run) for run in report['runs'])
    parts += [f'## What LoRA learned ({path})\n', f'{runs}.\n']
    if rows := spectrum_rows(report):
      parts += [ABOUT, tables.table(rows)]
    for name in report['pictures']:
      parts.append(f'![{Path(name).stem}]({(Path("runs", path).parent / name).as_posix()})\n')
  return parts


def spectrum_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
  """A row for each layer of a single run, none for two."""
  spectra = report['measured'].get('spectra', ())
  matrices = dict.fromkeys(entry['matrix'] for entry in spectra)
  by_place = {(entry['layer'], entry['matrix']): entry for entry in spectra}
  return [
    {
      'layer': str(layer),
      **{
        f'{matrix}: {title}': _number(by_place.get((layer, matrix)), key)
        for matrix in matrices
        for key, title in COLUMNS.items()
      },
    }
    for layer in dict.fromkeys(entry['layer'] for entry in spectra)
  ]


def _about(run: Mapping[str, Any]) -> str:
  ranks, scales = (', '.join(f'{x:g}' for x in run[key]) for key in ('ranks', 'scales'))
  seed = f', seed {run["seed"]}' if 'seed' in run else ''
  return (
    f'`{run["run"]}` on {Path(run["model"]).name}, {run["task"]}, r {ranks}, scale {scales}{seed}'
  )


def _number(entry: Mapping[str, Any] | None, key: str) -> str:
  return f'{float(entry[key]):.2f}' if entry else '-'
