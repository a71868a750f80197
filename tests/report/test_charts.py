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


def test_a_method_has_one_look_and_lora_is_on_top_and_first():
  of = lambda name, x=(1,): charts.Series(name, x, [1.0] * len(x), joined=False, method=name)
  other = charts.Series('lora, another', [1], [2.0], joined=False, method='lora')
  panels = [charts.Panel('a', 'x', 'y', [of('lora'), of('full'), of('bitfit'), other])]
  panels.append(charts.Panel('b', 'x', 'y', [of('bitfit')]))
  figure = charts.chart('c', 'alt', panels).figure()
  lines = {line.get_label(): line for line in (c.lines[0] for c in figure.axes[0].containers)}
  by_name = {c.get_label(): c.lines[0] for c in figure.axes[0].containers}
  assert by_name['lora'].get_color() == charts.METHODS['lora'].color
  assert by_name['lora, another'].get_color() == by_name['lora'].get_color()
  assert by_name['lora, another'].get_fillstyle() == 'none'
  orders = [by_name[name].get_zorder() for name in ('lora', 'full', 'bitfit')]
  assert orders == sorted(orders, reverse=True)
  (legend,) = figure.legends
  assert legend.get_texts()[0].get_text() == 'lora' and lines
  assert figure.axes[1].containers[0].lines[0].get_color() == charts.METHODS['bitfit'].color


def test_a_method_of_ones_own_has_a_look_too():
  assert charts.method('mine') == ('mine', *charts.OTHERS)
  places = [charts.order(name) for name in ('lora', 'full', 'mine', '')]
  assert places == sorted(set(places))


def test_a_level_far_from_the_points_is_not_drawn():
  series = [charts.Series('s', [1, 2], [80.0, 90.0])]
  drawn = lambda level: len(
    charts.chart('c', 'alt', [charts.Panel('a', 'x', 'y', series, line=('level', level))])
    .figure()
    .axes[0]
    .get_legend_handles_labels()[0]
  )
  assert (drawn(75.0), drawn(50.0)) == (2, 1)


def test_points_of_nearly_one_size_stand_side_by_side():
  series = [charts.Series(str(x), [x], [1.0], joined=False) for x in (100, 102, 1000)]
  (axes,) = charts.chart('c', 'alt', [charts.Panel('a', 'x', 'y', series, 10)]).figure().axes
  at = [float(c.lines[0].get_xdata()[0]) for c in axes.containers]
  assert at[0] == 100 and at[1] > 110 and at[2] == 1000
  assert axes.get_xlabel() == 'x' + charts.MOVED
  panel = charts.Panel('a', 'x', 'y', [series[0], series[2]], 10)
  (axes,) = charts.chart('c', 'alt', [panel]).figure().axes
  assert axes.get_xlabel() == 'x'
