"""Pictures of `experiments.analyze`'s JSON in the paper's form: figures 3, 4, 6, 7, 8 and spectra.

Needs nothing but that JSON and matplotlib, so that pictures can be drawn again anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lora_jax.report import tables

matplotlib.use('Agg')

CMAP = matplotlib.colormaps['magma'].with_extremes(bad='0.85')  # Grey: not shown.
SHORT = {'query': 'q', 'key': 'k', 'value': 'v'}
FACTOR = {'a': 'A', 'b': 'B'}
Report = Mapping[str, Any]


class Panel:
  """A heat map to draw: phi [i][j], its title, and whether only j <= i is shown."""

  def __init__(self, phi: Sequence[Sequence[float]], title: str, zoom: bool = False):
    self.values = np.asarray(phi, float)
    self.title = title
    self.zoom = zoom
    if zoom:
      size = min(self.values.shape)
      self.values = np.where(np.tri(size, dtype=bool), self.values[:size, :size], np.nan)


def draw(report: Report, folder: str | Path) -> list[Path]:
  """Draws all that a report holds as PNG files and returns their paths.

  Raises:
    ValueError: if the report is not of `experiments.analyze`.
  """
  if report.get('experiment') != 'analysis' or report.get('kind') not in ('single', 'pair'):
    raise ValueError(
      f'expected the analysis.json of experiments.analyze, found experiment='
      f'{report.get("experiment")!r}, kind={report.get("kind")!r}'
    )
  written = []
  for name, figure in pictures(report):
    written.append(Path(folder) / f'{name}.png')
    figure.savefig(written[-1], dpi=150)
  return written


def pictures(report: Report) -> Iterator[tuple[str, Figure]]:
  """All that a report holds, by name."""
  return pair_pictures(report) if report['kind'] == 'pair' else single_pictures(report)


def names(report: Report) -> tuple[str, ...]:
  """Those of `pictures`, without drawing."""
  measured = report['measured']
  if report['kind'] == 'pair':
    return ('figure3', 'figure6') if _unequal(report) else ('figure4', 'figure7')
  more = {'layers': measured['layers'], 'figure8': measured.get('figure8')}
  return ('spectra', *(name for name, entries in more.items() if entries))


def about(run: Mapping[str, Any]) -> str:
  """A run of a report in words: on which model and task, its ranks, scales and seed."""
  ranks, scales = (', '.join(f'{x:g}' for x in run[key]) for key in ('ranks', 'scales'))
  seed = f', seed {run["seed"]}' if 'seed' in run else ''
  return (
    f'`{run["run"]}` on {Path(run["model"]).name}, {run["task"]}, r {ranks}, scale {scales}{seed}'
  )


def pair_pictures(report: Report) -> Iterator[tuple[str, Figure]]:
  """Figures 3 and 6 of two ranks, 4 and 7 of equal ranks; by name."""
  measured, (first, second) = report['measured'], report['runs']
  unequal = _unequal(report)
  axes = [f'i of {_run(first, unequal)}', f'j of {_run(second, unequal)}']
  control = [Panel(entry['phi'], 'Random Gaussian') for entry in measured['control'][:1]]
  for name, layers in zip(names(report), ([measured['middle']], measured['spread'])):
    rows = []
    for layer in layers:
      maps = [entry for entry in measured['maps'] if entry['layer'] == layer]
      title = lambda entry: f'{_delta(entry, report["of"])}, layer {layer}'
      row = [Panel(entry['phi'], title(entry)) for entry in maps]
      zooms = [Panel(entry['phi'], f'{title(entry)}, zoom', zoom=True) for entry in maps]
      rows.append([*row, *(zooms if unequal else []), *([] if rows else control)])
    what = FACTOR.get(report['of'], r'\Delta W')
    text = rf'$\phi({what}_1, {what}_2, i, j)$: {caption(report)}'
    yield name, heat_maps(rows, text, axes, top=1.0)


def single_pictures(report: Report) -> Iterator[tuple[str, Figure]]:
  """Spectra, similarity between layers and, with a base, figure 8; by name."""
  measured, text = report['measured'], caption(report)
  yield 'spectra', spectra(measured['spectra'], text)
  if measured['layers']:
    rows = [
      [
        Panel(_off_diagonal(entry[key]), f'{_delta(entry)}, {entry["side"]}, {what}')
        for entry in measured['layers']
      ]
      for key, what in (('whole', 'all directions'), ('top', 'top direction'))
    ]
    ticks = measured['layers'][0]['layers']
    first = measured['layers'][0]
    head = (
      f'Similarity between layers (by chance {first["whole_by_chance"]:.2g} for all directions, '
      f'{first["top_by_chance"]:.2g} for one): {text}'
    )
    yield 'layers', heat_maps(rows, head, ['layer', 'layer'], _largest(rows), ticks)
  if measured.get('figure8'):
    rows = []
    for layer in dict.fromkeys(entry['layer'] for entry in measured['figure8']):
      maps = [entry for entry in measured['figure8'] if entry['layer'] == layer]
      row = [
        Panel(e['phi'], f'{_weight(e)} and {_delta(e, report["of"])}, layer {layer}') for e in maps
      ]
      rows.append([*row, Panel(maps[0]['control'], f'{_weight(maps[0])} and random')])
    what = FACTOR.get(report['of'], r'\Delta W')
    head = rf'$\phi(W, {what}, i, j)$: {text}'
    # The paper's bar ends at 0.2: on one up to 1, all that is there would be one colour.
    yield 'figure8', heat_maps(rows, head, ['i of W', 'j of the update'], _largest(rows))


def heat_maps(
  rows: Sequence[Sequence[Panel]],
  caption: str,
  labels: Sequence[str],
  top: float,
  names: Sequence[int] = (),
) -> Figure:
  """Rows of heat maps with one colour bar, i downwards and j to the right, as the paper has them.

  Args:
    labels: of the axes i and j.
    top: the colour bar is of 0 to this.
    names: numbers of the rows and columns; none is 1, 2, ...
  """
  columns = max(map(len, rows))
  figure = Figure(figsize=(2.9 * columns + 1.0, 2.9 * len(rows) + 0.7), layout='constrained')
  grid = figure.subplots(len(rows), columns, squeeze=False)
  norm = colors.Normalize(0, top)
  for axes, panels in zip(grid, rows):
    for k, axis in enumerate(axes):
      if k >= len(panels):
        axis.set_axis_off()
        continue
      image = _heat_map(axis, panels[k], norm, names)
      axis.set_xlabel(labels[1], fontsize=8)
      axis.set_ylabel(labels[0], fontsize=8)
  figure.colorbar(image, ax=grid, shrink=0.8, pad=0.02, label=r'$\phi$')
  figure.suptitle(caption, fontsize=10)
  return figure


def spectra(entries: Sequence[Mapping[str, Any]], caption: str) -> Figure:
  """Singular values of each update, a panel for each matrix, and effective and stable ranks."""
  matrices = list(dict.fromkeys(entry['matrix'] for entry in entries))
  figure = Figure(figsize=(3.6 * (len(matrices) + 1), 3.4), layout='constrained')
  *panels, last = figure.subplots(1, len(matrices) + 1)
  layers = [entry['layer'] for entry in entries]
  scale = matplotlib.cm.ScalarMappable(colors.Normalize(min(layers), max(layers)), 'viridis')
  limit = max(entry['singular_values'][0] for entry in entries)
  for panel, matrix in zip(panels, matrices):
    for entry in (entry for entry in entries if entry['matrix'] == matrix):
      values = entry['singular_values']
      marker = 'o-' if len(values) <= 16 else '-'
      color = scale.to_rgba(entry['layer'])
      panel.plot(range(1, len(values) + 1), values, marker, ms=3, lw=1, color=color)
    panel.set(yscale='log', xlabel='direction', title=_delta({'matrix': matrix}))
    # Below a millionth of the largest there is rounding of the float32 factors.
    low = min(min(entry['singular_values']) for entry in entries)
    panel.set_ylim(max(low, 1e-6 * limit) / 1.5, limit * 1.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
  panels[0].set_ylabel('singular value (with alpha/r)')
  for k, matrix in enumerate(matrices):
    chosen = [entry for entry in entries if entry['matrix'] == matrix]
    for key, style in (('effective_rank', 'o-'), ('stable_rank', 's--')):
      values = [entry[key] for entry in chosen]
      label = f'{_delta({"matrix": matrix})} {key.split("_")[0]}'
      at = [entry['layer'] for entry in chosen]
      last.plot(at, values, style, ms=4, lw=1, color=f'C{k}', label=label)
  last.set(xlabel='layer', ylabel='rank', title='effective and stable rank')
  last.xaxis.set_major_locator(MaxNLocator(integer=True))
  last.set_ylim(0, 1.3 * last.get_ylim()[1])  # Room for the legend.
  last.legend(fontsize=7, frameon=False, ncols=2, loc='upper center')
  bar = figure.colorbar(scale, ax=panels, pad=0.02, label='layer')
  bar.locator = MaxNLocator(integer=True)
  figure.suptitle(f'Singular values of the updates: {caption}', fontsize=10)
  return figure


def table7(report: Report) -> str:
  """Table 7 as Markdown, a row for each layer and matrix."""
  names = {
    'weight': '‖W‖',
    'on_update': 'of ΔW',
    'on_weight': 'of W',
    'on_random': 'of random',
    'update': '‖ΔW‖',
    'amplification': 'amplification',
  }
  rows = [
    {
      'layer': str(row['layer']),
      'matrix': row['matrix'],
      'r': str(row['rank']),
      'alpha/r': f'{row["scale"]:g}',
      **{title: f'{float(row[key]):.4g}' for key, title in names.items()},
    }
    for row in report['measured']['table7']
  ]
  head = f'Table 7: ‖UᵀWVᵀ‖ on the top r directions. {caption(report)}. ΔW with alpha/r.\n\n'
  return head + tables.table(rows)


def lines(report: Report) -> Iterable[str]:
  """A line of text for each update or pair, as a summary."""
  for entry in report['measured'].get('maps', ()):
    yield (
      f'{entry["path"]}: top direction {entry["top"]:.3f}, top of first in all of second '
      f'{entry["top_of_first_in_second"]:.3f}, all {entry["whole"]:.3f} '
      f'(by chance {entry["whole_by_chance"]:.3f})'
    )
  for entry in report['measured'].get('spectra', ()):
    yield (
      f'{entry["path"]}: rank {entry["rank"]}, effective {entry["effective_rank"]:.2f}, stable '
      f'{entry["stable_rank"]:.2f}, norm {entry["norm"]:.4g}'
    )


def _heat_map(axis: Axes, panel: Panel, norm: colors.Normalize, names: Sequence[int]) -> Any:
  image = axis.imshow(panel.values, CMAP, norm, aspect='auto')
  axis.set_title(panel.title, fontsize=9)
  axis.tick_params(labelsize=7)
  for along, size in zip((axis.yaxis, axis.xaxis), panel.values.shape):
    shown = _ticks(size) if not names else range(0, size, -(-size // 12))
    along.set_ticks(list(shown), [str(names[k] if names else k + 1) for k in shown])
  return image


def _ticks(size: int) -> list[int]:
  """Places of some of the numbers 1 .. size: all, or 1 and multiples of a round step."""
  step = next(step for step in (1, 2, 4, 8, 16, 32, 64, 128, 10**9) if size <= 8 * step)
  return [k - 1 for k in sorted({1, *range(step, size + 1, step)})]


def _off_diagonal(values: Sequence[Sequence[float]]) -> np.ndarray:
  """Without each layer's similarity to itself, which is 1 and would outshine the others."""
  return np.where(np.eye(len(values), dtype=bool), np.nan, np.asarray(values, float))


def _largest(rows: Sequence[Sequence[Panel]]) -> float:
  return float(max(np.nanmax(panel.values) for row in rows for panel in row))


def _delta(entry: Mapping[str, Any], of: str = 'update') -> str:
  name = SHORT.get(entry['matrix'], entry['matrix'])
  return rf'$\Delta W_{{{name}}}$' + (f' ({FACTOR[of]})' if of in FACTOR else '')


def _weight(entry: Mapping[str, Any]) -> str:
  return rf'$W_{{{SHORT.get(entry["matrix"], entry["matrix"])}}}$'


def _unequal(report: Report) -> bool:
  first, second = report['runs']
  return first['ranks'] != second['ranks']


def _run(run: Mapping[str, Any], unequal: bool) -> str:
  if unequal:
    return f'r = {", ".join(map(str, run["ranks"]))}'
  return f'seed {run["seed"]}' if 'seed' in run else run['run']


def caption(report: Report) -> str:
  """`all-MiniLM-L6-v2, cola, r=8 / r=64, seed 0, 0`."""
  first = report['runs'][0]
  tasks = ' / '.join(dict.fromkeys(run['task'] for run in report['runs']))
  ranks = ' / '.join('r=' + ','.join(map(str, run['ranks'])) for run in report['runs'])
  seeds = ', '.join(str(run.get('seed', 'not known')) for run in report['runs'])
  return f'{Path(first["model"]).name}, {tasks}, {ranks}, seed {seeds}'
