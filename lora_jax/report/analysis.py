"""The pages on what LoRA learned, from the JSON of `experiments.analyze`: figures 3, 4, 6 to 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_jax.report import charts, figures, paper
from lora_jax.report.page import Block, Commands, Page, Table

COLUMNS = {'effective_rank': 'effective rank', 'stable_rank': 'stable rank', 'norm': '‖ΔW‖'}
SPECTRA = """Of each layer's update ΔW, alpha / r in it: effective rank (exponential of the entropy
of the singular values), stable rank (‖ΔW‖² over the largest singular value's), Frobenius norm."""
PHI = """φ(i, j) is the squared Frobenius norm of the product of two sets of directions, over the
smaller of i and j (equation 4): 1 where the smaller space lies in the larger, max(i, j) / d by
chance in dimension d. Below: of the top direction of each; of the first's top one in all of the
second's; of all; and what chance gives for all."""
# Page: title, what the paper finds with GPT-3, the pictures on it, the command.
PAGES = {
  'figure-3': (
    'Figures 3 and 6: directions shared by two ranks',
    'GPT-3, r=8 and r=64: the top direction of one lies in the other by more than 0.5.',
    ('figure3', 'figure6'),
    'python -m experiments.analyze --runs=runs/r8 --runs=runs/r64 --out=out/ranks',
  ),
  'figure-4': (
    'Figures 4 and 7: directions shared by two seeds',
    'GPT-3, two seeds of r=64: ΔWq shares more directions than ΔWv; random Gaussians share none.',
    ('figure4', 'figure7'),
    'python -m experiments.analyze --runs=runs/seed0 --runs=runs/seed1 --out=out/seeds',
  ),
  'figure-8': (
    'Figure 8: the update beside the weights',
    'GPT-3: the top 4 directions of ΔW and the top tenth of those of W barely pass 0.2.',
    ('figure8',),
    'python -m experiments.analyze --runs=runs/r8 --out=out/r8',
  ),
}
NUMBERS = {
  'on_update': 'ΔW', 'on_weight': 'W', 'on_random': 'random', 'update': '‖ΔW‖',
  'amplification': 'amplification',
}  # fmt: skip
Report = Mapping[str, Any]


def pages(found: Mapping[str, Report]) -> list[Page]:
  """Those of the figures, of table 7 and, where an update was measured alone, of the spectra."""
  reports = {path: one for path, one in found.items() if one['experiment'] == 'analysis'}
  return [
    table_7(reports),
    *(figure_page(name, reports) for name in PAGES),
    *spectra_pages(reports),
  ]


def figure_page(name: str, reports: Mapping[str, Report]) -> Page:
  """A page of PAGES with the pictures of every analysis that has them."""
  title, claim, shown, command = PAGES[name]
  blocks: list[Block] = [claim]
  states = []
  for path, report in reports.items():
    pictures = [pic for pic in drawn(path, report) if pic[0] in shown]
    if not pictures:
      continue
    about = ', '.join(figures.about(run) for run in report['runs'])
    states.append(figures.caption(report))
    blocks += [f'### {states[-1]}', f'{about} (`results/runs/{path}`).']
    if rows := map_rows(report):
      blocks.append(Table(rows, PHI))
    blocks += [picture for _, picture in pictures]
  if not states:
    blocks.append(Commands('Not run. Of run directories:', [command]))
  return Page(name, title, '; '.join(states), blocks)


def table_7(reports: Mapping[str, Report]) -> Page:
  """The amplification factor."""
  printed = paper.TABLES['7']
  blocks: list[Block] = [
    """How large the weights are in the directions that an update works in: ‖UᵀWVᵀ‖ by the top r
directions of ΔW, of W itself and of a random matrix, and the amplification ‖ΔW‖ over the first."""
  ]
  states, panels = [], []
  kinds = ('on_update', 'on_weight', 'on_random')
  for path, report in reports.items():
    if found := report['measured'].get('table7'):
      states.append(figures.caption(report))
      rows = [
        {
          'layer': str(row['layer']),
          'matrix': row['matrix'],
          'r': str(row['rank']),
          '‖W‖': f'{float(row["weight"]):.4g}',
          **{title: f'{float(row[key]):.3g}' for key, title in NUMBERS.items()},
        }
        for row in found
      ]
      caption = (
        f'ΔW carries alpha / r ({found[0]["scale"]:g}); layers from 0 (`results/runs/{path}`).'
      )
      blocks += [f'### Ours: {states[-1]}', Table(rows, caption)]
      for matrix in dict.fromkeys(row['matrix'] for row in found):
        own = [row for row in found if row['matrix'] == matrix]
        layers = [row['layer'] for row in own]
        series = [charts.Series(NUMBERS[k], layers, [float(r[k]) for r in own]) for k in kinds]
        title = f'ours: {states[-1].partition(", ")[2]}, {matrix}'  # Without the model: too long.
        panels.append(charts.Panel(title, 'layer', '‖UᵀWVᵀ‖', series, log_y=True))
  series = [
    charts.Series(
      NUMBERS[k], [int(row['r']) for row in printed.rows],
      [paper.value(row[NUMBERS[k]]) for row in printed.rows],
    )
    for k in kinds
  ]  # fmt: skip
  panels.append(charts.Panel('GPT-3 (paper), query, layer 48', 'r', '‖UᵀWVᵀ‖', series, 2, True))
  blocks += [
    charts.chart('table-7', 'the norm of the weights in three sets of directions', panels),
    "### The paper's",
    Table(printed.rows, f'{printed.caption}. Ours: not run, the weights are not published.'),
  ]
  if not states:
    line = PAGES['figure-8'][-1]
    blocks.append(Commands('Ours: not run. Of a run directory, its base at hand:', [line]))
  return Page('table-7', 'Table 7: what an update amplifies', '; '.join(states), blocks)


def spectra_pages(reports: Mapping[str, Report]) -> list[Page]:
  """One page for all analyses of single runs, none without one."""
  blocks: list[Block] = []
  states = []
  for path, report in reports.items():
    if rows := spectrum_rows(report):
      states.append(figures.caption(report))
      blocks += [f'### {states[-1]}', figures.about(report['runs'][0]) + '.', Table(rows, SPECTRA)]
      blocks += [pic for name, pic in drawn(path, report) if name in ('spectra', 'layers')]
  if not blocks:
    return []
  return [Page('spectra', 'Spectra of the updates', '; '.join(states), blocks)]


def drawn(path: str, report: Report) -> list[tuple[str, charts.Picture]]:
  """The figures that a report holds, `figure3` and so on, as pictures of the pages."""
  folder = Path(path)
  stem = folder.parent.name if folder.stem == 'analysis' else folder.stem
  numbers = {key: report[key] for key in ('kind', 'of', 'runs', 'measured')}
  return [
    (
      name,
      charts.Picture(
        f'{name.replace("figure", "figure-")}-{stem.removeprefix("analysis-")}',
        f'{name} of {figures.caption(report)}',
        {'figure': name, **numbers},
        lambda name=name: dict(figures.pictures(report))[name],
      ),
    )
    for name in figures.names(report)
  ]


def map_rows(report: Report) -> list[dict[str, str]]:
  """A row for each compared pair of updates, none for a single run."""
  return [
    {
      'layer': str(entry['layer']),
      'matrix': entry['matrix'],
      'top and top': f'{float(entry["top"]):.3f}',
      'top in all': f'{float(entry["top_of_first_in_second"]):.3f}',
      'all': f'{float(entry["whole"]):.3f}',
      'all, by chance': f'{float(entry["whole_by_chance"]):.3f}',
    }
    for entry in report['measured'].get('maps', ())
  ]


def spectrum_rows(report: Report) -> list[dict[str, str]]:
  """A row for each layer of a single run, none for two."""
  spectra: Sequence[Mapping[str, Any]] = report['measured'].get('spectra', ())
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


def _number(entry: Mapping[str, Any] | None, key: str) -> str:
  return f'{float(entry[key]):.2f}' if entry else '-'
