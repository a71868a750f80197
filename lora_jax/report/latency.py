"""What adapters cost at inference: the form of table 1 and of figure 5 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lora_jax.report import charts, measured, paper
from lora_jax.report.page import Block, Commands, Page, Table

METHODS = ('adapter_h', 'adapter_l')  # Figure 5: top, bottom.
TITLES = {'adapter_h': 'Adapter-H', 'adapter_l': 'Adapter-L'}


def page(found: Mapping[str, Mapping[str, Any]]) -> Page:
  """Table 1 and figure 5."""
  runs = {path: run for path, run in found.items() if run['experiment'] == 'latency'}
  printed = paper.TABLES['1']
  columns = {name.partition(',')[0]: name for name in printed.rows[0] if name != 'method'}
  order = list(columns)
  blocks: list[Block] = [
    'What adapters cost a forward pass of GPT-2 medium, where LoRA, merged, costs nothing.'
  ]
  states, panels = [], []
  for path, run in runs.items():
    states.append(f'{run["model"]}, {measured.machine(run)}')
    text = (
      f'{run["model"]} with {run["layers"]} layers, {run["dtype"]}, commit {run["commit"][:10]} '
      f'(`results/runs/{path}`). {about(run)}'
    )
    settings = sorted(run['settings'], key=lambda one: order.index(label(one)))
    blocks.append(f'### Ours: {measured.machine(run)}')
    blocks += [Table(rows(settings), text)] if settings else [text]
    if run['grid']:
      name = f'figure-5-{Path(path).stem}'
      draw = lambda run=run: figure(run['grid'])
      blocks.append(charts.Picture(name, 'figure 5: slow-down, %', run['grid'], draw))
    if not settings:
      continue
    names = dict.fromkeys(name for one in settings for name in one['rows'])
    labels = [label(one) for one in settings]
    series = [
      charts.Series(
        TITLES.get(name, name), labels, [one['rows'][name]['slowdown'] for one in settings],
        joined=False,
      )
      for name in names
    ]  # fmt: skip
    panels.append(charts.Panel(f'ours: {run["device"]}', 'batch x length', 'slow-down, %', series))
  bare = printed.rows[0]
  series = [
    charts.Series(
      row['method'],
      order,
      [100 * (paper.value(row[name]) / paper.value(bare[name]) - 1) for name in columns.values()],
      joined=False,
    )
    for row in printed.rows
  ]
  panels.append(charts.Panel('Quadro RTX8000 (paper)', 'batch x length', 'slow-down, %', series))
  if not runs:
    lines = ['python -m experiments.latency', 'python -m experiments.latency --grid']
    blocks.append(Commands('Ours: not run. Table 1, then figure 5 with it:', lines))
  blocks += [
    charts.chart('table-1', 'slow-down by setting', panels),
    "### The paper's",
    Table(printed.rows, f'{printed.caption}. Another machine than ours: compare the slow-downs.'),
  ]
  return Page('table-1', 'Table 1 and figure 5: latency', '; '.join(dict.fromkeys(states)), blocks)


def label(setting: Mapping[str, Any]) -> str:
  """`16x256`: batch and length, as the paper's table names a setting."""
  return f'{setting["batch"]}x{setting["length"]}'


def about(run: Mapping[str, Any]) -> str:
  """How a file's numbers were obtained."""
  text = 'Milliseconds, mean ± standard deviation; the slow-down is that of the medians.'
  if run['settings']:
    text += (
      ' The merged model is compiled to the program of the bare one, to the letter: what is '
      'measured between the two is noise.'
    )
  if run['grid']:
    fewest = min(row['trials'] for cell in run['grid'] for row in cell['rows'].values())
    text += f' Figure 5 is of {fewest} passes or more.'
  return text


def rows(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
  """A row for each variant, a column for each setting: milliseconds, and the slow-down."""
  found = {}
  for setting in settings:
    passes = next(iter(setting['rows'].values()))['trials']
    title = f'batch {setting["batch"]}, length {setting["length"]}, {passes} passes'
    title += f' (adapters {setting["adapters"]})'
    for name, row in setting['rows'].items():
      found.setdefault(name, {'': name})[title] = cell(row)
  return list(found.values())


def cell(row: Mapping[str, float]) -> str:
  """`23.9 ± 2.1 (+20.7%)`, milliseconds; a slow-down is to the bare model."""
  return f'{row["mean"]:.1f} ± {row["sd"]:.1f} ({row["slowdown"]:+.1f}%)'


def text(setting: Mapping[str, Any]) -> str:
  """A setting with the milliseconds of its variants, as lines."""
  lines = [f'batch {setting["batch"]}, length {setting["length"]}']
  lines += [f'  {name:16} {cell(row)}' for name, row in setting['rows'].items()]
  return '\n'.join(lines)


def draw(cells: Sequence[Mapping[str, Any]], path: str | Path) -> None:
  """Writes a PNG of `figure`."""
  figure(cells).savefig(path, dpi=120)


def figure(cells: Sequence[Mapping[str, Any]]) -> Figure:
  """Per cent of slow-down, a panel for each adapter and length, as figure 5."""
  batches = sorted({cell['batch'] for cell in cells})
  lengths = sorted({cell['length'] for cell in cells})
  names = [name for name in cells[0]['rows'] if name != 'bare']
  sizes = sorted({int(name.split()[1]) for name in names})
  value = {
    (*name.split(), cell['length'], cell['batch']): row['slowdown']
    for cell in cells
    for name, row in cell['rows'].items()
    if name != 'bare'
  }
  top = max(1.0, *value.values())
  width, height = max(1.6, 0.55 * len(batches)) * len(lengths), 1.1 * len(sizes)
  picture = Figure(figsize=(1.6 + width, 1.4 + height), layout='constrained')
  axes = picture.subplots(len(METHODS), len(lengths), squeeze=False, sharex=True, sharey=True)
  for panels, method in zip(axes, METHODS):
    for panel, length in zip(panels, lengths):
      shown = [[value[method, str(r), length, batch] for batch in batches] for r in sizes]
      image = panel.imshow(shown, cmap='YlOrRd', vmin=0, vmax=top, aspect='auto', origin='lower')
      for y, row in enumerate(shown):
        for x, percent in enumerate(row):
          dark = percent > 0.6 * top
          panel.text(
            x, y, f'{round(percent)}', ha='center', va='center', color='white' if dark else 'black'
          )
      panel.set_xticks(range(len(batches)), batches)
      panel.set_yticks(range(len(sizes)), sizes)
      panel.set_title(f'{TITLES[method]}, length {length}', fontsize='medium')
    panels[0].set_ylabel('bottleneck')
  for panel in axes[-1]:
    panel.set_xlabel('batch')
  picture.colorbar(image, ax=axes, label='slow-down, %')
  return picture
