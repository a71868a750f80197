"""A picture names the digest of its numbers; panels without numbers are left out."""

from PIL import Image

from lora_jax.report import charts

PANEL = charts.Panel('a', 'x', 'y', [charts.Series('s', ['p', 'q'], [1, 2], [0.1, 0.2], False)])


def test_panels_without_numbers_are_left_out():
  picture = charts.chart('c', 'alt', [PANEL, charts.Panel('empty', 'x', 'y', [])])
  assert [panel['title'] for panel in picture.numbers] == ['a']
  assert len(picture.figure().axes) == 1


def test_a_file_names_the_numbers_that_it_was_drawn_from(tmp_path):
  picture = charts.chart('c', 'alt', [PANEL])
  assert not picture.is_drawn(tmp_path)
  path = picture.draw(tmp_path)
  assert picture.is_drawn(tmp_path) and charts.digest_of(path) == picture.digest
  other = charts.chart('c', 'alt', [PANEL._replace(title='b')])
  assert not other.is_drawn(tmp_path)
  Image.new('RGB', (2, 2)).save(tmp_path / 'photo.png')
  assert charts.digest_of(tmp_path / 'photo.png') == ''


def test_ranks_are_on_a_logarithmic_axis_and_labels_keep_their_looks():
  lines = [charts.Series(name, [1, 2, 4], [1, 2, 3]) for name in ('first', 'second')]
  panels = [charts.Panel('a', 'rank', 'y', lines, 2), charts.Panel('b', 'rank', 'y', lines[1:], 2)]
  first, second = charts.chart('c', 'alt', panels).figure().axes
  assert first.get_xscale() == 'log'
  assert [label.get_text() for label in first.get_xticklabels()] == ['1', '2', '4']
  color = lambda axes, place: axes.get_legend_handles_labels()[0][place].lines[0].get_color()
  assert color(first, 1) == color(second, 0) != color(first, 0)


def test_means_and_spreads():
  assert charts.mean_and_spread([[1.0], [1.0, 3.0]]) == ([1.0, 2.0], [0.0, 2**0.5])
