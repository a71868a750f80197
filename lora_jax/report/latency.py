"""What adapters cost at inference: the form of table 1 and of figure 5 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

METHODS = ('adapter_h', 'adapter_l')  # Figure 5: top, bottom.
TITLES = {'adapter_h': 'Adapter-H', 'adapter_l': 'Adapter-L'}


def about(run: Mapping[str, Any]) -> str:
  """How a file's numbers were obtained."""
  return (
    f'Milliseconds, mean ± standard deviation of {run["trials"]} passes; the slow-down is that of '
    'the medians. The merged model is compiled to the program of the bare one, to the letter: what '
    'is measured between the two is noise.'
  )


def rows(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
  """A row for each variant, a column for each setting: milliseconds, and the slow-down."""
  found = {}
  for setting in settings:
    title = f'batch {setting["batch"]}, length {setting["length"]}'
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
  """Writes a PNG: per cent of slow-down, a panel for each adapter and length."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

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
  figure, axes = pyplot.subplots(
    len(METHODS), len(lengths), squeeze=False, layout='constrained', sharex=True, sharey=True,
    figsize=(1.6 + max(1.6, 0.55 * len(batches)) * len(lengths), 1.4 + 1.1 * len(sizes)),
  )  # fmt: skip
  for panels, method in zip(axes, METHODS):
    for panel, length in zip(panels, lengths):
      shown = [[value[method, str(r), length, batch] for batch in batches] for r in sizes]
      image = panel.imshow(shown, cmap='YlOrRd', vmin=0, vmax=top, aspect='auto', origin='lower')
      for y, row in enumerate(shown):
        for x, percent in enumerate(row):
          dark = percent > 0.6 * top
          panel.text(
            x, y, f'{percent:.0f}', ha='center', va='center', color='white' if dark else 'black'
          )
      panel.set_xticks(range(len(batches)), batches)
      panel.set_yticks(range(len(sizes)), sizes)
      panel.set_title(f'{TITLES[method]}, length {length}', fontsize='medium')
    panels[0].set_ylabel('bottleneck')
  for panel in axes[-1]:
    panel.set_xlabel('batch')
  figure.colorbar(image, ax=axes, label='slow-down, %')
  figure.savefig(path, dpi=120)
  pyplot.close(figure)
