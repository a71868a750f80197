"""Figures of an analysis: which there are, what each panel shows, and the lines beside them."""

import numpy as np
import pytest

from lora_jax.report import analysis_figures
from tests.report.pages.test_analysis import FACTS, MAP, PAIR, SINGLE

SIMILAR = {
  'matrix': 'query', 'side': 'input', 'layers': [0, 5], 'whole': [[1.0, 0.2], [0.2, 1.0]],
  'top': [[1.0, 0.4], [0.4, 1.0]], 'whole_by_chance': 0.01, 'top_by_chance': 0.001,
}  # fmt: skip
WEIGHT = {'layer': 3, 'matrix': 'query', 'phi': [[0.1, 0.2]], 'control': [[0.0, 0.05]]}
EVERY = SINGLE | {'measured': SINGLE['measured'] | {'layers': [SIMILAR], 'figure8': [WEIGHT]}}
UNEQUAL = PAIR | {'runs': [FACTS, FACTS | {'ranks': [64]}]}


def shown(figure):
  """The titles of a figure's heat maps, with their values."""
  return {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}


@pytest.mark.parametrize(
  'analysis, expected',
  [
    (SINGLE, ('spectra',)),
    (EVERY, ('spectra', 'layers', 'figure8')),
    (PAIR, ('figure4', 'figure7')),
    (UNEQUAL, ('figure3', 'figure6')),
  ],
)
def test_the_figures_are_those_that_are_named(analysis, expected, tmp_path):
  assert analysis_figures.names(analysis) == expected
  assert [name for name, _ in analysis_figures.figures(analysis)] == list(expected)


def test_they_are_drawn_into_a_folder(tmp_path):
  written = analysis_figures.draw(PAIR, tmp_path)
  assert written == [tmp_path / 'figure4.png', tmp_path / 'figure7.png']
  assert all(path.read_bytes()[1:4] == b'PNG' for path in written)
  with pytest.raises(ValueError, match="found experiment='glue', kind=None"):
    analysis_figures.draw({'experiment': 'glue'}, tmp_path)


def test_a_pairs_heat_maps_are_those_of_its_layer_beside_a_random_one():
  figure = dict(analysis_figures.figures(PAIR))['figure4']
  found = shown(figure)
  assert list(found) == [r'$\Delta W_{q}$ (A), layer 0', 'Random Gaussian']
  np.testing.assert_array_equal(found[r'$\Delta W_{q}$ (A), layer 0'], MAP['phi'])
  assert {axes.get_xlabel() for axes in figure.axes if axes.images} == {'j of seed 1'}


def test_of_unequal_ranks_the_square_of_the_first_directions_is_shown_as_well():
  found = shown(dict(analysis_figures.figures(UNEQUAL))['figure3'])
  zoom = found[r'$\Delta W_{q}$ (A), layer 0, zoom']
  assert zoom.mask.tolist() == [[False, True], [False, False]]


def test_a_layers_similarity_to_itself_is_not_shown():
  found = shown(dict(analysis_figures.figures(EVERY))['layers'])
  assert len(found) == 2
  top = found[r'$\Delta W_{q}$, input, top direction']
  assert top.mask.tolist() == [[True, False], [False, True]] and top[0, 1] == 0.4


def test_figure_8_is_on_a_bar_that_ends_at_its_largest_value():
  figure = dict(analysis_figures.figures(EVERY))['figure8']
  assert list(shown(figure)) == [r'$W_{q}$ and $\Delta W_{q}$ (A), layer 3', '$W_{q}$ and random']
  assert {axes.images[0].norm.vmax for axes in figure.axes if axes.images} == {0.2}
  labels = [axes.get_xlabel() for axes in figure.axes if axes.images]
  assert labels == ['j of the update', 'j of a random matrix']


def test_spectra_have_a_panel_for_each_matrix_and_one_for_the_ranks():
  (figure,) = (figure for _, figure in analysis_figures.figures(SINGLE))
  *panels, last = (axes for axes in figure.axes if axes.get_title())
  assert [panel.get_title() for panel in panels] == [r'$\Delta W_{q}$', r'$\Delta W_{v}$']
  assert [len(panel.lines) for panel in panels] == [1, 2]
  assert last.get_title() == 'effective and stable rank' and len(last.lines) == 4
  assert len(figure.axes) == 4  # With the color bar of the layers.


def test_spectra_of_one_layer_name_it_and_have_no_bar_of_colors():
  first = [entry for entry in SINGLE['measured']['spectra'] if not entry['layer']]
  figure = analysis_figures.spectra(first, 'base')
  assert figure.get_suptitle() == 'Singular values of the updates: base, layer 0'
  assert len(figure.axes) == 3 and list(figure.axes[-1].get_xticks()) == [0]


def test_analyses_of_other_layers_of_one_run_are_told_apart():
  measured = SINGLE['measured']
  first = [entry for entry in measured['spectra'] if not entry['layer']]
  one = SINGLE | {'measured': measured | {'spectra': first}}
  assert analysis_figures.captions({'a': SINGLE, 'b': one, 'c': PAIR}) == {
    'a': 'base, mnli, r=2, seed 0, layers 0, 1',
    'b': 'base, mnli, r=2, seed 0, layer 0',
    'c': 'base, mnli, r=2 / r=2, seeds 0 and 1',
  }


def test_what_was_measured_is_told_in_lines_and_in_a_table():
  assert list(analysis_figures.lines(PAIR)) == [
    'q: top direction 0.500, top of first in all of second 0.600, all 0.400 (by chance 0.010)'
  ]
  table = analysis_figures.table7(SINGLE)
  assert 'base, mnli, r=2, seed 0' in table
  assert '| 0 | query | 2 | 2 | 60 | 0.3 | 20 | 0.1 | 6 | 20 |' in table
  assert analysis_figures.about(FACTS) == '`a` on base, mnli, r 2, scale 2, seed 0'


def test_a_figure_that_cannot_be_written_is_named_and_not_left(tmp_path, full_disk):
  with pytest.raises(OSError, match=r"bytes are free\): '.*/figure4\.png'"):
    analysis_figures.draw(PAIR, tmp_path)
  assert not any(tmp_path.iterdir())
