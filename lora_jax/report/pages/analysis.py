"""The pages on what LoRA learned, from the JSON of `experiments.analyze`: figures 3, 4, 6 to 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lora_jax.analysis_schema import Amplification, Analysis, Spectrum
from lora_jax.paper import printed
from lora_jax.report import analysis_figures, charts
from lora_jax.report.document import Block, Page, Table
from lora_jax.report.runs import model_name

SPECTRA = """Of each layer's update ΔW, with alpha / r: effective rank (exponential of the entropy
of the singular values), stable rank (‖ΔW‖² over the largest singular value's), Frobenius norm."""
PHI = """φ(i, j) is the squared Frobenius norm of the product of two sets of directions, over the
smaller of i and j (equation 4): 1 where the smaller space lies in the larger, max(i, j) / d by
chance in dimension d. Below: of the top direction of each; of the first's top one in all of the
second's; of all; and what chance gives for all."""


class Figure(NamedTuple):
  """A page of figures: its title, what it compares, the pictures."""

  title: str
  about: str
  pictures: tuple[str, ...]


FIGURES = {
  'figure-3': Figure(
    'Figures 3 and 6: directions shared by two ranks',
    'Two runs at different ranks, layer by layer: how much of one update lies in the other.',
    ('figure3', 'figure6'),
  ),
  'figure-4': Figure(
    'Figures 4 and 7: directions shared by two seeds',
    'Two seeds of one setting, layer by layer: how much of one update lies in the other.',
    ('figure4', 'figure7'),
  ),
  'figure-8': Figure(
    'Figure 8: the update beside the weights',
    'How much of the top directions of the weights lies in those of their update.',
    ('figure8',),
  ),
}
NORM = 'norm ‖UᵀWVᵀ‖ (no unit)'
ABOUT_TABLE_7 = """How large the weights are in the directions that an update works in: ‖UᵀWVᵀ‖ by
the top r directions of ΔW, of W itself and of a random matrix, and the amplification ‖ΔW‖ over the
first. The picture has the mean and the standard deviation of the layers in the tables, which may
be more at one rank than at another."""


def pages(found: Mapping[str, Analysis]) -> list[Page]:
  """Table 7, the figures and, where an update was measured alone, the spectra."""
  figures = [figure_page(name, found) for name in FIGURES]
  return [table_7(found), *figures, *spectra_pages(found)]


def figure_page(name: str, found: Mapping[str, Analysis]) -> Page:
  """A page of FIGURES with the pictures of every analysis that has them."""
  figure = FIGURES[name]
  blocks: list[Block] = [figure.about]
  states, captions = [], analysis_figures.captions(found)
  for path, analysis in found.items():
    made = pictures(path, analysis, captions[path])
    shown = [pic for key, pic in made if key in figure.pictures]
    if not shown:
      continue
    about = ', '.join(analysis_figures.about(run) for run in analysis['runs'])
    states.append(captions[path])
    blocks += [f'### {states[-1]}', f'{about} (`results/runs/{path}`).']
    if rows := map_rows(analysis):
      blocks.append(Table(rows, PHI))
    blocks += shown
  return Page(name, figure.title, '; '.join(states), blocks, name.replace('-', '='))


def table_7(found: Mapping[str, Analysis]) -> Page:
  """The amplification factor."""
  table = printed.TABLES['7']
  blocks: list[Block] = [ABOUT_TABLE_7]
  states: list[str] = []
  captions = analysis_figures.captions(found)
  by_panel: dict[str, list[Amplification]] = {}
  for path, analysis in found.items():
    if measured := analysis['measured'].get('table7'):
      states.append(captions[path])
      caption = (
        f'ΔW carries alpha / r ({measured[0]["scale"]:g}); layers from 0 (`results/runs/{path}`).'
      )
      rows = list(map(_amplification_row, measured))
      blocks += [f'### Ours: {states[-1]}', Table(rows, caption)]
      first = analysis['runs'][0]
      for row in measured:
        title = f'ours: {model_name(first)}, {first["task"]}, {row["matrix"]}'
        by_panel.setdefault(title, []).append(row)
  panels = [_amplification_panel(title, rows) for title, rows in by_panel.items()]
  ranks = [int(row['r']) for row in table.rows]
  series = [
    charts.Series(title, ranks, [printed.value(row[title]) for row in table.rows])
    for title in ('ΔW', 'W', 'random')
  ]
  panels.append(charts.Panel('GPT-3 (paper), query, layer 48', 'rank', NORM, series, 2, True))
  blocks += [
    charts.chart('table-7', 'the norm of the weights in three sets of directions', panels),
    "### The paper's",
    Table(table.rows, f'{table.caption}.'),
  ]
  title = 'Table 7: what an update amplifies'
  return Page('table-7', title, '; '.join(states), blocks, 'table=7')


def spectra_pages(found: Mapping[str, Analysis]) -> list[Page]:
  """One page for every analysis of a single run; none without one."""
  blocks: list[Block] = []
  states, captions = [], analysis_figures.captions(found)
  for path, analysis in found.items():
    if rows := spectrum_rows(analysis):
      states.append(captions[path])
      about = analysis_figures.about(analysis['runs'][0])
      blocks += [f'### {states[-1]}', f'{about}.', Table(rows, SPECTRA)]
      made = pictures(path, analysis, states[-1])
      blocks += [pic for key, pic in made if key in ('spectra', 'layers')]
  if not blocks:
    return []
  return [Page('spectra', 'Spectra of the updates', '; '.join(states), blocks)]


def pictures(path: str, analysis: Analysis, caption: str) -> list[tuple[str, charts.Picture]]:
  """The figures that an analysis holds, by name (`figure3`), as pictures of the pages."""
  folder = Path(path)
  stem = folder.parent.name if folder.stem == 'analysis' else folder.stem
  numbers = {key: analysis[key] for key in ('kind', 'of', 'runs', 'measured')}
  return [
    (
      name,
      charts.Picture(
        name=f'{name.replace("figure", "figure-")}-{stem.removeprefix("analysis-")}',
        alt=f'{name} of {caption}',
        numbers={'figure': name, **numbers},
        figure=lambda name=name: dict(analysis_figures.figures(analysis))[name],
      ),
    )
    for name in analysis_figures.names(analysis)
  ]


def map_rows(analysis: Analysis) -> list[dict[str, str]]:
  """A row for each compared pair of updates; none for a single run."""
  return [
    {
      'layer': str(entry['layer']),
      'matrix': entry['matrix'],
      'top and top': f'{float(entry["top"]):.3f}',
      'top in all': f'{float(entry["top_of_first_in_second"]):.3f}',
      'all': f'{float(entry["whole"]):.3f}',
      'all, by chance': f'{float(entry["whole_by_chance"]):.3f}',
    }
    for entry in analysis['measured'].get('maps', ())
  ]


def spectrum_rows(analysis: Analysis) -> list[dict[str, str]]:
  """A row for each layer of a single run; none for two runs."""
  spectra = analysis['measured'].get('spectra', ())
  matrices = dict.fromkeys(entry['matrix'] for entry in spectra)
  by_place = {(entry['layer'], entry['matrix']): entry for entry in spectra}
  rows = []
  for layer in dict.fromkeys(entry['layer'] for entry in spectra):
    row = {'layer': str(layer)}
    for matrix in matrices:
      row |= _spectrum_entries(matrix, by_place.get((layer, matrix)))
    rows.append(row)
  return rows


def _spectrum_entries(matrix: str, spectrum: Spectrum | None) -> dict[str, str]:
  titles = [f'{matrix}: {title}' for title in ('effective rank', 'stable rank', '‖ΔW‖')]
  if spectrum is None:
    return dict.fromkeys(titles, '-')
  values = spectrum['effective_rank'], spectrum['stable_rank'], spectrum['norm']
  return {title: f'{float(value):.2f}' for title, value in zip(titles, values, strict=True)}


def _amplification_row(row: Amplification) -> dict[str, str]:
  return {
    'layer': str(row['layer']),
    'matrix': row['matrix'],
    'r': str(row['rank']),
    '‖W‖': f'{float(row["weight"]):.4g}',
    'ΔW': f'{float(row["on_update"]):.3g}',
    'W': f'{float(row["on_weight"]):.3g}',
    'random': f'{float(row["on_random"]):.3g}',
    '‖ΔW‖': f'{float(row["update"]):.3g}',
    'amplification': f'{float(row["amplification"]):.3g}',
  }


def _amplification_panel(title: str, rows: Sequence[Amplification]) -> charts.Panel:
  """The three norms over the rank: mean and deviation of the layers."""
  ranks = sorted({row['rank'] for row in rows})
  of_rank = [[row for row in rows if row['rank'] == rank] for rank in ranks]
  norms = {
    'ΔW': [[float(row['on_update']) for row in own] for own in of_rank],
    'W': [[float(row['on_weight']) for row in own] for own in of_rank],
    'random': [[float(row['on_random']) for row in own] for own in of_rank],
  }
  series = [
    charts.Series(name, ranks, *charts.mean_and_spread(values)) for name, values in norms.items()
  ]
  return charts.Panel(title, 'rank', NORM, series, 2, True)
