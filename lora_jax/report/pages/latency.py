"""The page of table 1 and figure 5: what adapters cost at inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_jax import files
from lora_jax.paper import entries, printed
from lora_jax.report import charts, runs
from lora_jax.report.document import Block, Page, Table
from lora_jax.result_schema import Latency, LatencySetting, Timing

METHODS = ('adapter_h', 'adapter_l')  # The rows of figure 5, from the top.
# What pages call a variant of the JSON or of the paper's table, and its method.
VARIANTS = {
  'lora, merged': ('LoRA, merged', 'lora'),
  'full and LoRA, merged': ('LoRA, merged', 'lora'),
  'lora, beside': ('LoRA, not merged', 'lora'),
  'bare': ('the bare model', 'none'),
  'adapter_h': ('Adapter-H', 'adapter_h'),
  'Adapter-H': ('Adapter-H', 'adapter_h'),
  'adapter_l': ('Adapter-L', 'adapter_l'),
  'Adapter-L': ('Adapter-L', 'adapter_l'),
}
SIZES, SLOWDOWN = 'batch x length in tokens', 'slow-down of a forward pass, %'
TITLES = {'adapter_h': 'Adapter-H', 'adapter_l': 'Adapter-L'}


def page(found: Mapping[str, Latency]) -> Page:
  """The page of every measurement."""
  table = printed.TABLES['1']
  blocks: list[Block] = [
    'What adapters, and LoRA merged into the weights, add to the time of a forward pass.'
  ]
  panels = []
  for path, one in found.items():
    blocks += _ours(path, one)
    if one['settings']:
      panels.append(_panel(one))
  panels.append(_panel_of_paper())
  blocks += [
    charts.chart('table-1', 'slow-down by setting', panels),
    "### The paper's",
    Table(table.rows, f'{table.caption}. Another machine than ours: compare the slow-downs.'),
  ]
  states = dict.fromkeys(f'{one["model"]}, {runs.machine(one)}' for one in found.values())
  return Page('table-1', 'Table 1 and figure 5: latency', '; '.join(states), blocks, 'table=1')


def _ours(path: str, one: Latency) -> list[Block]:
  text = (
    f'{one["model"]} with {one["layers"]} layers, {one["dtype"]}, commit {runs.commits([one])} '
    f'(`results/runs/{path}`). {about(one)}'
  )
  blocks: list[Block] = [f'### Ours: {runs.machine(one)}']
  settings = _settings(one)
  blocks += [Table(rows(settings), text)] if settings else [text]
  if grid := one['grid']:
    name = f'figure-5-{Path(path).stem}'
    blocks.append(charts.Picture(name, 'figure 5: slow-down, %', grid, lambda: figure(grid)))
  return blocks


def _settings(one: Latency) -> list[LatencySetting]:
  """The settings of a measurement in the order of the paper's table."""
  order = list(entries.TABLE_1)
  return sorted(one['settings'], key=lambda setting: order.index(label(setting)))


def _panel(one: Latency) -> charts.Panel:
  settings = _settings(one)
  names = dict.fromkeys(name for setting in settings for name in setting['rows'])
  x = [label(setting) for setting in settings]
  series = []
  for name in names:
    y = [setting['rows'][name]['slowdown'] for setting in settings]
    # The deviation of one pass, in per cent of the bare model's pass.
    bare = [setting['rows'].get('bare', setting['rows'][name])['mean'] for setting in settings]
    sds = [setting['rows'][name]['sd'] for setting in settings]
    spread = [100 * sd / mean for sd, mean in zip(sds, bare)]
    title, method = VARIANTS.get(name, (name, ''))
    series.append(charts.Series(title, x, y, spread, joined=False, method=method))
  return charts.Panel(f'ours: {one["device"]}', SIZES, SLOWDOWN, series)


def _panel_of_paper() -> charts.Panel:
  bare, *_ = rows_of_table = printed.TABLES['1'].rows
  columns = [name for name in bare if name != 'method']
  series = []
  for row in rows_of_table:
    whole = [printed.value(bare[name]) for name in columns]
    y = [100 * (printed.value(row[name]) / of_bare - 1) for name, of_bare in zip(columns, whole)]
    spread = [100 * printed.spread(row[name]) / of_bare for name, of_bare in zip(columns, whole)]
    title, method = VARIANTS[row['method']]
    x = list(entries.TABLE_1)
    series.append(charts.Series(title, x, y, spread, joined=False, method=method))
  return charts.Panel('Quadro RTX8000 (paper)', SIZES, SLOWDOWN, series)


def label(setting: LatencySetting) -> str:
  """`16x256`: batch and length, as the paper's table names a setting."""
  return f'{setting["batch"]}x{setting["length"]}'


def about(one: Latency) -> str:
  """How a file's numbers were obtained."""
  text = 'Milliseconds, mean ± standard deviation; the slow-down is that of the medians.'
  if one['settings']:
    text += (
      ' The merged model is compiled to the program of the bare one, to the letter: what is '
      'measured between the two is noise.'
    )
  if one['grid']:
    fewest = min(row['trials'] for setting in one['grid'] for row in setting['rows'].values())
    text += f' Figure 5 is of {fewest} passes or more.'
  return text


def rows(settings: Sequence[LatencySetting]) -> list[dict[str, str]]:
  """A row for each variant, a column for each setting: milliseconds, and the slow-down."""
  found: dict[str, dict[str, str]] = {}
  for setting in settings:
    passes = next(iter(setting['rows'].values()))['trials']
    title = f'batch {setting["batch"]}, length {setting["length"]}, {passes} passes'
    title += f' (adapters {setting.get("adapters", "-")})'
    for name, row in setting['rows'].items():
      shown = VARIANTS.get(name, (name, ''))[0]
      found.setdefault(name, {'': shown})[title] = entry(row)
  return list(found.values())


def entry(row: Timing) -> str:
  """`23.9 ± 2.1 (+20.7%)`: milliseconds, and the slow-down to the bare model."""
  return f'{row["mean"]:.1f} ± {row["sd"]:.1f} ({row["slowdown"]:+.1f}%)'


def text(setting: LatencySetting) -> str:
  """A setting with the milliseconds of its variants, as lines."""
  lines = [f'batch {setting["batch"]}, length {setting["length"]}']
  lines += [f'  {name:16} {entry(row)}' for name, row in setting['rows'].items()]
  return '\n'.join(lines)


def draw(grid: Sequence[LatencySetting], path: str | Path) -> None:
  """Writes a PNG of `figure`."""
  with files.atomic(path) as file:
    figure(grid).savefig(file, dpi=120)


def figure(grid: Sequence[LatencySetting]) -> Figure:
  """Per cent of slow-down, a panel for each adapter and length, in the form of figure 5."""
  batches = sorted({setting['batch'] for setting in grid})
  lengths = sorted({setting['length'] for setting in grid})
  names = [name for name in grid[0]['rows'] if name != 'bare']
  sizes = sorted({int(name.split()[1]) for name in names})
  slowdown = {
    (name, setting['length'], setting['batch']): row['slowdown']
    for setting in grid
    for name, row in setting['rows'].items()
  }
  top = max(1.0, *(value for (name, *_), value in slowdown.items() if name != 'bare'))
  width, height = max(1.6, 0.55 * len(batches)) * len(lengths), 1.1 * len(sizes)
  picture = Figure(figsize=(1.6 + width, 1.4 + height), layout='constrained')
  axes = picture.subplots(len(METHODS), len(lengths), squeeze=False, sharex=True, sharey=True)
  for panels, method in zip(axes, METHODS):
    for panel, length in zip(panels, lengths):
      shown = [[slowdown[f'{method} {r}', length, batch] for batch in batches] for r in sizes]
      image = panel.imshow(shown, cmap='YlOrRd', vmin=0, vmax=top, aspect='auto', origin='lower')
      _write_numbers(panel, shown, 0.6 * top)
      panel.set_xticks(range(len(batches)), batches)
      panel.set_yticks(range(len(sizes)), sizes)
      panel.set_title(f'{TITLES[method]}, length {length}', fontsize='medium')
    panels[0].set_ylabel('bottleneck')
  for panel in axes[-1]:
    panel.set_xlabel('batch')
  picture.colorbar(image, ax=axes, label='slow-down, %')
  return picture


def _write_numbers(panel: Axes, shown: Sequence[Sequence[float]], dark: float) -> None:
  """Writes each value into its place, in white on colors of values above `dark`."""
  for y, row in enumerate(shown):
    for x, percent in enumerate(row):
      color = 'white' if percent > dark else 'black'
      panel.text(x, y, f'{round(percent)}', ha='center', va='center', color=color)
