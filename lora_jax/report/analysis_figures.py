"""Figures of `experiments.analyze`'s JSON in the paper's form: figures 3, 4, 6, 7, 8 and spectra.

They need nothing but that JSON and matplotlib, so they can be drawn again anywhere.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lora_jax import files
from lora_jax.analysis_schema import Analysis, AnalyzedRun, LayerSimilarity, Spectrum
from lora_jax.report.document import markdown_table
from lora_jax.report.runs import model_name

CMAP = matplotlib.colormaps['magma'].with_extremes(bad='0.85')  # Gray: not shown.
SHORT = {'query': 'q', 'key': 'k', 'value': 'v'}
FACTOR = {'a': 'A', 'b': 'B'}


class HeatMap(NamedTuple):
  """A heat map to draw: phi [i][j], in which nan is not shown, and its title.

  `j` is the label of that axis, where it is another one than that of the other maps.
  """

  values: np.ndarray
  title: str
  j: str = ''


def draw(analysis: Analysis, folder: str | Path) -> list[Path]:
  """Draws all that an analysis holds as PNG files and returns their paths.

  Raises:
    ValueError: if the JSON is not of `experiments.analyze`.
  """
  if analysis.get('experiment') != 'analysis' or analysis.get('kind') not in ('single', 'pair'):
    raise ValueError(
      f'expected the analysis.json of experiments.analyze, found experiment='
      f'{analysis.get("experiment")!r}, kind={analysis.get("kind")!r}'
    )
  written = []
  for name, figure in figures(analysis):
    written.append(Path(folder) / f'{name}.png')
    with files.atomic(written[-1]) as file:
      figure.savefig(file, dpi=150)
  return written


def figures(analysis: Analysis) -> Iterator[tuple[str, Figure]]:
  """All figures that an analysis holds, by name."""
  return pair_figures(analysis) if analysis['kind'] == 'pair' else single_figures(analysis)


def names(analysis: Analysis) -> tuple[str, ...]:
  """The names of `figures`, without drawing them."""
  measured = analysis['measured']
  if analysis['kind'] == 'pair':
    return ('figure3', 'figure6') if _unequal(analysis) else ('figure4', 'figure7')
  more = {'layers': measured['layers'], 'figure8': measured.get('figure8')}
  return ('spectra', *(name for name, entries in more.items() if entries))


def about(run: AnalyzedRun) -> str:
  """An analyzed run in words: its model and task, ranks, scales and seed."""
  ranks, scales = (', '.join(f'{x:g}' for x in run[key]) for key in ('ranks', 'scales'))
  seed = f', seed {run["seed"]}' if 'seed' in run else ''
  return f'`{run["run"]}` on {model_name(run)}, {run["task"]}, r {ranks}, scale {scales}{seed}'


def pair_figures(analysis: Analysis) -> Iterator[tuple[str, Figure]]:
  """Figures 3 and 6 of two ranks, 4 and 7 of equal ranks; by name."""
  measured, (first, second) = analysis['measured'], analysis['runs']
  unequal = _unequal(analysis)
  labels = [f'i of {_run(first, unequal)}', f'j of {_run(second, unequal)}']
  control = [
    HeatMap(np.asarray(entry['phi'], float), 'Random Gaussian') for entry in measured['control'][:1]
  ]
  for name, layers in zip(names(analysis), ([measured['middle']], measured['spread'])):
    rows: list[list[HeatMap]] = []
    for layer in layers:
      maps = [
        HeatMap(
          np.asarray(entry['phi'], float),
          f'{_delta(entry["matrix"], analysis["of"])}, layer {layer}',
        )
        for entry in measured['maps']
        if entry['layer'] == layer
      ]
      zooms = list(map(_zoom, maps)) if unequal else []
      rows.append([*maps, *zooms, *([] if rows else control)])
    what = FACTOR.get(analysis['of'], r'\Delta W')
    text = rf'$\phi({what}_1, {what}_2, i, j)$: {caption(analysis)}'
    yield name, heat_maps(rows, text, labels, top=1.0)


def single_figures(analysis: Analysis) -> Iterator[tuple[str, Figure]]:
  """Spectra, similarity between layers and, with a base, figure 8; by name."""
  measured = analysis['measured']
  yield 'spectra', spectra(measured['spectra'], caption(analysis))
  if measured['layers']:
    yield 'layers', _similarity_of_layers(measured['layers'], caption(analysis))
  if measured.get('figure8'):
    yield 'figure8', _figure_8(analysis)


def _similarity_of_layers(entries: Sequence[LayerSimilarity], text: str) -> Figure:
  rows = [
    [
      HeatMap(_off_diagonal(values), f'{_delta(entry["matrix"])}, {entry["side"]}, {what}')
      for entry, values in zip(entries, of_entries)
    ]
    for what, of_entries in (
      ('all directions', [entry['whole'] for entry in entries]),
      ('top direction', [entry['top'] for entry in entries]),
    )
  ]
  first = entries[0]
  head = (
    f'Similarity between layers (by chance {first["whole_by_chance"]:.2g} for all directions, '
    f'{first["top_by_chance"]:.2g} for one): {text}'
  )
  return heat_maps(rows, head, ['layer', 'layer'], _largest(rows), first['layers'])


def _figure_8(analysis: Analysis) -> Figure:
  entries = analysis['measured']['figure8']
  rows = []
  for layer in dict.fromkeys(entry['layer'] for entry in entries):
    own = [entry for entry in entries if entry['layer'] == layer]
    row = [
      HeatMap(
        np.asarray(entry['phi'], float),
        f'{_weight(entry["matrix"])} and {_delta(entry["matrix"], analysis["of"])}, layer {layer}',
      )
      for entry in own
    ]
    control = np.asarray(own[0]['control'], float)
    title = f'{_weight(own[0]["matrix"])} and random'
    rows.append([*row, HeatMap(control, title, 'j of a random matrix')])
  what = FACTOR.get(analysis['of'], r'\Delta W')
  head = rf'$\phi(W, {what}, i, j)$: {caption(analysis)}'
  # The paper's bar ends at 0.2: on a bar that ends at 1, everything would have one color.
  return heat_maps(rows, head, ['i of W', 'j of the update'], _largest(rows))


def heat_maps(
  rows: Sequence[Sequence[HeatMap]],
  caption: str,
  labels: Sequence[str],
  top: float,
  names: Sequence[int] = (),
) -> Figure:
  """Rows of heat maps with one color bar, i downwards and j to the right, as the paper has them.

  Args:
    labels: the labels of the axes i and j.
    top: the upper end of the color bar, which begins at 0.
    names: the numbers of rows and columns; empty for 1, 2, ...
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
      _draw(axis, panels[k], norm, names)
      axis.set_xlabel(panels[k].j or labels[1], fontsize=8)
      axis.set_ylabel(labels[0], fontsize=8)
  figure.colorbar(
    ScalarMappable(norm, CMAP), ax=grid, fraction=0.02, aspect=30, pad=0.02, label=r'$\phi$'
  )
  figure.suptitle(caption, fontsize=10)
  return figure


def spectra(entries: Sequence[Spectrum], caption: str) -> Figure:
  """Singular values of each update, a panel for each matrix, and effective and stable ranks."""
  matrices = list(dict.fromkeys(entry['matrix'] for entry in entries))
  figure = Figure(figsize=(3.6 * (len(matrices) + 1), 3.4), layout='constrained')
  *panels, last = figure.subplots(1, len(matrices) + 1)
  layers = [entry['layer'] for entry in entries]
  one = len(set(layers)) == 1  # Then colors tell nothing apart.
  scale = ScalarMappable(colors.Normalize(min(layers), max(layers)), 'viridis')
  limit = max(entry['singular_values'][0] for entry in entries)
  for panel, matrix in zip(panels, matrices):
    for entry in (entry for entry in entries if entry['matrix'] == matrix):
      values = entry['singular_values']
      marker = 'o-' if len(values) <= 16 else '-'
      color = scale.to_rgba(np.asarray(entry['layer']))
      panel.plot(range(1, len(values) + 1), values, marker, ms=3, lw=1, color=color)
    panel.set(yscale='log', xlabel='direction', title=_delta(matrix))
    # Below a millionth of the largest there is rounding of the float32 factors.
    low = min(min(entry['singular_values']) for entry in entries)
    panel.set_ylim(max(low, 1e-6 * limit) / 1.5, limit * 1.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
  panels[0].set_ylabel('singular value (with alpha/r)')
  for k, matrix in enumerate(matrices):
    own = [entry for entry in entries if entry['matrix'] == matrix]
    at = [entry['layer'] for entry in own]
    for name, style, values in (
      ('effective', 'o-', [entry['effective_rank'] for entry in own]),
      ('stable', 's--', [entry['stable_rank'] for entry in own]),
    ):
      label = f'{_delta(matrix)} {name}'
      last.plot(at, values, style, ms=4, lw=1, color=f'C{k}', label=label)
  last.set(xlabel='layer', ylabel='rank', title='effective and stable rank')
  if one:
    last.set_xticks(layers[:1])
  else:
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    bar = figure.colorbar(scale, ax=panels, pad=0.02, label='layer')
    bar.locator = MaxNLocator(integer=True)
  last.set_ylim(0, 1.3 * last.get_ylim()[1])  # Room for the legend.
  last.legend(fontsize=7, frameon=False, ncols=2, loc='upper center')
  layer = f', layer {layers[0]}' if one else ''
  figure.suptitle(f'Singular values of the updates: {caption}{layer}', fontsize=10)
  return figure


def table7(analysis: Analysis) -> str:
  """Table 7 as Markdown, a row for each layer and matrix."""
  number = lambda value: f'{float(value):.4g}'
  rows = [
    {
      'layer': str(row['layer']),
      'matrix': row['matrix'],
      'r': str(row['rank']),
      'alpha/r': f'{row["scale"]:g}',
      '‖W‖': number(row['weight']),
      'of ΔW': number(row['on_update']),
      'of W': number(row['on_weight']),
      'of random': number(row['on_random']),
      '‖ΔW‖': number(row['update']),
      'amplification': number(row['amplification']),
    }
    for row in analysis['measured']['table7']
  ]
  head = f'Table 7: ‖UᵀWVᵀ‖ on the top r directions. {caption(analysis)}. ΔW with alpha/r.\n\n'
  return head + markdown_table(rows)


def lines(analysis: Analysis) -> Iterable[str]:
  """A line of text for each update or pair, as a summary."""
  for entry in analysis['measured'].get('maps', ()):
    yield (
      f'{entry["path"]}: top direction {entry["top"]:.3f}, top of first in all of second '
      f'{entry["top_of_first_in_second"]:.3f}, all {entry["whole"]:.3f} '
      f'(by chance {entry["whole_by_chance"]:.3f})'
    )
  for entry in analysis['measured'].get('spectra', ()):
    yield (
      f'{entry["path"]}: rank {entry["rank"]}, effective {entry["effective_rank"]:.2f}, stable '
      f'{entry["stable_rank"]:.2f}, norm {entry["norm"]:.4g}'
    )


def _draw(axis: Axes, panel: HeatMap, norm: colors.Normalize, names: Sequence[int]) -> None:
  axis.imshow(panel.values, CMAP, norm, aspect='auto')
  axis.set_title(panel.title, fontsize=9)
  axis.tick_params(labelsize=7)
  for along, size in zip((axis.yaxis, axis.xaxis), panel.values.shape):
    shown = _ticks(size) if not names else range(0, size, -(-size // 12))
    along.set_ticks(list(shown), [str(names[k] if names else k + 1) for k in shown])


def _ticks(size: int) -> list[int]:
  """Places of some of the numbers 1 .. size: all, or 1 and multiples of a round step."""
  step = next(step for step in (1, 2, 4, 8, 16, 32, 64, 128, 10**9) if size <= 8 * step)
  return [k - 1 for k in sorted({1, *range(step, size + 1, step)})]


def _off_diagonal(values: Sequence[Sequence[float]]) -> np.ndarray:
  """Without each layer's similarity to itself, which is 1 and would outshine the others."""
  return np.where(np.eye(len(values), dtype=bool), np.nan, np.asarray(values, float))


def _largest(rows: Sequence[Sequence[HeatMap]]) -> float:
  return float(max(np.nanmax(panel.values) for row in rows for panel in row))


def _zoom(whole: HeatMap) -> HeatMap:
  """The square of the first directions, in which only j <= i is shown."""
  size = min(whole.values.shape)
  square = whole.values[:size, :size]
  values = np.where(np.tri(size, dtype=bool), square, np.nan)
  return HeatMap(values, f'{whole.title}, zoom')


def _delta(matrix: str, of: str = 'update') -> str:
  name = SHORT.get(matrix, matrix)
  return rf'$\Delta W_{{{name}}}$' + (f' ({FACTOR[of]})' if of in FACTOR else '')


def _weight(matrix: str) -> str:
  return rf'$W_{{{SHORT.get(matrix, matrix)}}}$'


def _unequal(analysis: Analysis) -> bool:
  first, second = analysis['runs']
  return first['ranks'] != second['ranks']


def _run(run: AnalyzedRun, unequal: bool) -> str:
  if unequal:
    return f'r = {", ".join(map(str, run["ranks"]))}'
  return f'seed {run["seed"]}' if 'seed' in run else run['run']


def captions(found: Mapping[str, Analysis]) -> dict[str, str]:
  """The caption of each analysis by its path, with the layers where two would be the same."""
  texts = {path: caption(analysis) for path, analysis in found.items()}
  same = collections.Counter(texts.values())
  return {
    path: f'{text}, {_layers(found[path])}' if same[text] > 1 else text
    for path, text in texts.items()
  }


def _layers(analysis: Analysis) -> str:
  measured = analysis['measured']
  entries = measured.get('maps', ()) if analysis['kind'] == 'pair' else measured['spectra']
  layers = sorted({int(entry['layer']) for entry in entries})
  return 'layer' + 's' * (len(layers) != 1) + f' {", ".join(map(str, layers))}'


def caption(analysis: Analysis) -> str:
  """`all-MiniLM-L6-v2, cola, r=8 / r=64, seed 0`."""
  first = analysis['runs'][0]
  tasks = ' / '.join(dict.fromkeys(run['task'] for run in analysis['runs']))
  ranks = ' / '.join('r=' + ','.join(map(str, run['ranks'])) for run in analysis['runs'])
  seeds = list(dict.fromkeys(str(run['seed']) for run in analysis['runs'] if 'seed' in run))
  about = ['seed' + 's' * (len(seeds) > 1) + ' ' + ' and '.join(seeds)] if seeds else []
  return ', '.join([model_name(first), tasks, ranks, *about])
