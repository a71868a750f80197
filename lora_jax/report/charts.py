"""Pictures of the pages: curves and points of some panels, each file naming its numbers."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from lora_jax import files

KEY = 'lora_jax numbers'  # The key of the digest in the PNG's metadata.


Numbers = Sequence[Mapping[str, object]] | Mapping[str, object]


class Picture(NamedTuple):
  """A PNG of some numbers.

  Attributes:
    name: the file's, without .png.
    alt: what the picture shows.
    numbers: all that is drawn, as JSON.
    figure: draws the numbers.
  """

  name: str
  alt: str
  numbers: Numbers
  figure: Callable[[], Figure]

  @property
  def digest(self) -> str:
    """A digest of the numbers."""
    text = json.dumps(self.numbers, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]

  def draw(self, folder: Path) -> Path:
    """Writes the file, with the digest in it."""
    path = folder / f'{self.name}.png'
    metadata = {KEY: self.digest, 'Software': None}
    figure = self.figure()
    with files.atomic(path) as file:
      figure.savefig(file, dpi=120, metadata=metadata)
    return path

  def is_drawn(self, folder: Path) -> bool:
    """Whether the folder has the file, drawn from these numbers."""
    path = folder / f'{self.name}.png'
    return path.exists() and digest_of(path) == self.digest


def digest_of(path: Path) -> str:
  """The digest of the numbers that a PNG was drawn from; '' of one of others or a damaged one."""
  try:
    with Image.open(path) as image:
      image.load()  # The digest stands before the pixels, which may have been cut off.
      return str(image.info.get(KEY, ''))
  except (OSError, SyntaxError):  # As Pillow tells that a file is not whole.
    return ''


class Series(NamedTuple):
  """A line or, without `joined`, points; x are numbers or names, `spread` is ± y or empty.

  `method` is a method's name, by which it has one look in all pictures; '' is another subject.
  """

  label: str
  x: Sequence[float | str]
  y: Sequence[float]
  spread: Sequence[float] = ()
  joined: bool = True
  method: str = ''


class Panel(NamedTuple):
  """Series over one pair of axes; `log` is the base of the x axis, 0 for a plain one.

  `line` is a level to draw across, such as that of the most common class, by its label; one that is
  further from the points than they are from each other is not drawn.
  """

  title: str
  x: str
  y: str
  series: Sequence[Series]
  log: int = 0
  log_y: bool = False
  line: tuple[str, float] | None = None


class Map(NamedTuple):
  """A heat map of rates and ranks.

  Attributes:
    title: of the map.
    columns: names of the rates.
    rows: names of the ranks.
    values: by row and column; None where a run diverged or there is none.
    best: the column of the best value of each row, drawn bold; None if there is none.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[str]
  values: Sequence[Sequence[float | None]]
  best: Sequence[int | None]


class Method(NamedTuple):
  """How a method is named and drawn in every picture."""

  name: str
  color: str
  marker: str


# The order is that of legends, and the reverse of that in which they are drawn.
METHODS = {
  'lora': Method('LoRA', '#d62728', 'o'),
  'vera': Method('VeRA', '#ff7f0e', 'H'),
  'full': Method('full fine-tuning', '#111111', 's'),
  'bitfit': Method('BitFit', '#8c6d31', 'v'),
  'adapter_h': Method('Adapter-H', '#1f77b4', '^'),
  'adapter_l': Method('Adapter-L', '#17becf', '<'),
  'adapter_p': Method('Adapter-P', '#6baed6', '>'),
  'adapter_d': Method('Adapter-D', '#084594', 'd'),
  'prefix_embed': Method('PrefixEmbed', '#a1d99b', 'P'),
  'prefix_layer': Method('PrefixLayer', '#2ca02c', 'X'),
  'top_layers': Method('top layers', '#9467bd', 'D'),
  'lora+prefix_embed': Method('LoRA and PrefixEmbed', '#ff9896', 'p'),
  'lora+prefix_layer': Method('LoRA and PrefixLayer', '#e377c2', 'h'),
  'intrinsic': Method('random subspace', '#ff7f0e', 'h'),
  'none': Method('the base, not adapted', '#999999', '_'),
}
OTHERS = ('#7f7f7f', '*')  # The look of further methods, such as two that are joined.
# Of series that are no methods: matrices, sets of directions.
COLORS = ('#4c78a8', '#f58518', '#54a24b', '#b279a2', '#9d755d', '#72b7b2', '#eeca3b', '#bab0ac')
MARKERS = 'os^Dv<>P'
MOVED = '\n(points that would hide each other are moved apart)'  # Of an x axis.


def method(name: str) -> Method:
  """How a method is named and drawn."""
  return METHODS.get(name, Method(name, *OTHERS))


def order(name: str) -> int:
  """The place of a method in tables and legends; `''`, which is none, is the last."""
  return [*METHODS, name].index(name) if name else len(METHODS) + 1


def chart(name: str, alt: str, panels: Sequence[Panel]) -> Picture:
  """The picture of panels side by side, at most three in a row."""
  panels = [panel for panel in panels if panel.series]
  numbers = [
    {**panel._asdict(), 'series': [series._asdict() for series in panel.series]} for panel in panels
  ]
  return Picture(name, alt, numbers, lambda: _figure(panels))


def heat_maps(name: str, alt: str, unit: str, maps: Sequence[Map]) -> Picture:
  """The picture of heat maps side by side with one color bar, each value written in its place."""
  numbers = {'unit': unit, 'maps': [one._asdict() for one in maps]}
  return Picture(name, alt, numbers, lambda: _heat_figure(unit, maps))


def _heat_figure(unit: str, maps: Sequence[Map]) -> Figure:
  columns = min(3, len(maps))
  rows = -(-len(maps) // columns)
  figure = Figure(figsize=(4.6 * columns + 0.6, 3.0 * rows), layout='constrained')
  grid = list(figure.subplots(rows, columns, squeeze=False).flat)
  arrays = [np.array(one.values, float) for one in maps]
  norm = Normalize(min(map(np.nanmin, arrays)), max(map(np.nanmax, arrays)))
  for axes, one, values in zip(grid, maps, arrays):
    shown = axes.imshow(values, 'viridis', norm, aspect='auto')
    for (i, j), value in np.ndenumerate(values):
      text = 'none' if np.isnan(value) else f'{value:.4g}'
      color = 'white' if norm(value) < 0.5 else 'black'
      weight = 'bold' if one.best[i] == j else 'normal'
      axes.text(j, i, text, ha='center', va='center', fontsize=7, color=color, weight=weight)
    axes.set_xticks(range(len(one.columns)), one.columns, fontsize=8)
    axes.set_yticks(range(len(one.rows)), one.rows, fontsize=8)
    axes.set_title(one.title, fontsize=10)
    axes.set_xlabel('learning rate', fontsize=9)
    axes.set_ylabel('rank', fontsize=9)
  for axes in grid[len(maps) :]:
    axes.set_axis_off()
  figure.colorbar(shown, ax=grid, fraction=0.03, pad=0.02, label=unit)
  return figure


def _figure(panels: Sequence[Panel]) -> Figure:
  columns = 2 if len(panels) == 4 else min(3, len(panels))
  rows = -(-len(panels) // columns)
  looks = _looks(panels)
  # The legend is below the panels: within one it would cover points.
  across = max(1, columns * 45 // (max(map(len, looks)) + 6))
  several = len(looks) > 1 or any(panel.line for panel in panels)
  lines = -(-len(looks) // across) if several else 0
  size = (4.2 * columns, 3.5 * rows + 0.18 * lines)
  figure = Figure(figsize=size, layout='constrained')
  grid = list(figure.subplots(rows, columns, squeeze=False).flat)
  shown = {}
  for axes, panel in zip(grid, panels):
    _draw(axes, panel, looks)
    handles, labels = axes.get_legend_handles_labels()
    shown |= dict(zip(labels, handles))
  for axes in grid[len(panels) :]:
    axes.set_axis_off()
  if lines:
    place = 'outside lower center'
    order = sorted(shown, key=lambda label: (label not in looks, [*looks, label].index(label)))
    handles = [shown[label] for label in order]
    figure.legend(handles, order, loc=place, ncols=across, fontsize=7, frameon=False)
  return figure


class Look(NamedTuple):
  """How a series is drawn; `fill` is matplotlib's `fillstyle`."""

  color: str
  marker: str
  fill: str


def _looks(panels: Sequence[Panel]) -> dict[str, Look]:
  """The look of each label, methods first: the same in every panel."""
  series = {one.label: one for panel in panels for one in panel.series}
  looks: dict[str, Look] = {}
  for one in sorted(series.values(), key=lambda one: order(one.method)):
    i = len(looks)
    look = Look(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], 'full')
    if one.method:
      look = Look(*method(one.method)[1:], 'full')
      # Further series of a method keep its color.
      again = Look(look.color, MARKERS[i % len(MARKERS)], 'none')
      look = again if look in looks.values() else look
    looks[one.label] = look
  return looks


def _draw(axes: Axes, panel: Panel, looks: Mapping[str, Look]) -> None:
  names = list(dict.fromkeys(x for series in panel.series for x in series.x))
  labels = [name if isinstance(name, str) else f'{name:,g}' for name in names]
  named = any(isinstance(x, str) for x in names)
  places: dict[float | str, float] = {
    name: float(place if named else name) for place, name in enumerate(names)
  }
  order = list(looks)
  apart = _apart(panel)
  for number, series in enumerate(panel.series):
    look = looks[series.label]
    # Beside each other, so that spreads can be told apart.
    shift = 0.08 * (number - (len(panel.series) - 1) / 2) if named and not series.joined else 0
    at = apart.get(number, np.array([places[x] for x in series.x], float) + shift)
    style = dict(
      color=look.color,
      marker=look.marker,
      fillstyle=look.fill,
      ls='-' if series.joined else 'none',
      label=series.label,
    )
    top = 3 + (len(order) - order.index(series.label)) / len(order)
    size = 7 if series.method == 'lora' else 5
    spread = list(series.spread) or None
    axes.errorbar(
      at, series.y, spread, **style, ms=size, lw=1.2, capsize=2, elinewidth=0.8, zorder=top
    )
  if panel.line and _is_near(panel.line[1], [y for series in panel.series for y in series.y]):
    axes.axhline(panel.line[1], color='0.5', ls='--', lw=1, label=panel.line[0], zorder=1)
  _scale(axes, panel, places, labels, named)
  axes.set_title(panel.title, fontsize=10)
  moved = any(at[0] != panel.series[number].x[0] for number, at in apart.items())
  axes.set_xlabel(panel.x + MOVED * moved, fontsize=9)
  axes.set_ylabel(panel.y, fontsize=9)
  axes.margins(y=0.12)
  axes.grid(alpha=0.25, lw=0.5)


def _is_near(level: float, values: Sequence[float]) -> bool:
  low, high = min(values), max(values)
  return low - (high - low) <= level <= high + (high - low)


def _apart(panel: Panel) -> dict[int, np.ndarray]:
  """Where the single points of a decimal logarithmic axis are drawn, by the number of the series.

  Points of nearly equal x would hide each other: each stands at least 15 % beyond the one before.
  """
  single = {
    number: float(series.x[0])
    for number, series in enumerate(panel.series)
    if panel.log == 10 and len(series.x) == 1
  }
  at, last = {}, 0.0
  for number, x in sorted(single.items(), key=lambda item: item[1]):
    last = max(x, 1.15 * last) if x < 1.5 * last else x
    at[number] = np.array([last])
  return at


def _scale(
  axes: Axes,
  panel: Panel,
  places: Mapping[float | str, float],
  labels: Sequence[str],
  named: bool,
) -> None:
  """The axes' scales, and the labels of x."""
  if panel.log:
    axes.set_xscale('log', base=panel.log)
  if panel.log == 2:
    axes.set_xticks(list(places.values()), labels, fontsize=8)
    axes.minorticks_off()
  if named:
    lean = 30 if sum(map(len, labels)) > 24 else 0
    axes.set_xticks(
      range(len(labels)), labels, fontsize=8, rotation=lean, ha='right' if lean else 'center'
    )
    axes.set_xlim(-0.5, len(labels) - 0.5)
  if panel.log_y:
    axes.set_yscale('log')
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))


def mean_and_spread(groups: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
  """The mean of each group, and its sample standard deviation, which is 0 for one value."""
  means = [statistics.fmean(values) for values in groups]
  return means, [statistics.stdev(values) if len(values) > 1 else 0.0 for values in groups]
