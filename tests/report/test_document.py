"""A page is Markdown; files that are not what the pages are, are stale."""

import pytest

from lora_jax.report import charts, document, html, latex

ROWS = [{'a': '1', 'b': 'x'}, {'a': '2', 'b': 'longer'}]


def make(number):
  series = charts.Series('s', [1, 2], [number, 2])
  picture = charts.chart('p', 'a picture', [charts.Panel('t', 'x', 'y', [series])])
  blocks = [
    'A text.',
    document.Table(ROWS, 'A caption'),
    picture,
  ]
  return [document.Page('one', 'One', 'some', blocks)]


def test_blocks_are_markdown():
  (page,) = make(1)
  text = document.markdown(page)
  assert text.startswith('# One\n\nA text.\n\nA caption\n\n| a | b |\n|---|---|')
  assert '| 2 | longer |' in text and text.endswith(f'\n\n![a picture](p.png)\n\n{document.MADE}\n')
  folded = page._replace(blocks=[document.Table(ROWS, 'Provenance', folded=True)])
  assert '<details><summary>Provenance</summary>' in document.markdown(folded)
  said = page._replace(blocks=['> ' + 'found ' * 30, '- a\n- b'])
  lines = document.markdown(said).splitlines()[2:]
  assert all(line.startswith('> ') for line in lines[:2]) and lines[3:5] == ['- a', '- b']


def test_aligned_tables_have_the_first_column_to_the_left():
  assert document.aligned_table(ROWS) == 'a       b\n1       x\n2  longer'


def test_what_changed_is_stale_until_it_is_written(tmp_path):
  pages = make(1)
  assert document.stale(pages, tmp_path) == ['one.md', 'p.png']
  assert [path.name for path in document.write(pages, tmp_path)] == ['one.md', 'p.png']
  assert document.stale(pages, tmp_path) == []
  assert [path.name for path in document.write(pages, tmp_path)] == ['one.md']
  assert [path.name for path in document.write(pages, tmp_path, redraw=True)] == ['one.md', 'p.png']
  assert document.stale(make(3), tmp_path) == ['p.png']


def test_left_over_pages_are_removed_and_other_files_are_not(tmp_path):
  document.write(make(1), tmp_path)
  (tmp_path / 'notes.md').write_text('by hand')
  assert document.stale([], tmp_path) == ['one.md', 'p.png']
  assert document.write([], tmp_path) == []
  assert [path.name for path in tmp_path.iterdir()] == ['notes.md']


WRITERS = {
  'one.md': document.write,
  'p.png': lambda pages, folder: pages[0].pictures[0].draw(folder),
  'report.html': html.write,
  'one.tex': latex.write,
}


@pytest.mark.parametrize('name', WRITERS)
def test_what_cannot_be_written_stays_as_it_was(tmp_path, request, name):
  document.write(make(1), tmp_path)
  WRITERS[name](make(1), tmp_path)
  before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
  request.getfixturevalue('full_disk')
  with pytest.raises(OSError, match=rf"bytes are free\): '.*/{name}'"):
    WRITERS[name](make(3), tmp_path)
  assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize('size', [0, 2000])
def test_a_picture_that_was_cut_short_is_drawn_anew(tmp_path, size):
  """A killed process left one, and with its first bytes it had the digest of a whole one."""
  document.write(make(1), tmp_path)
  whole = (tmp_path / 'p.png').read_bytes()
  (tmp_path / 'p.png').write_bytes(whole[:size])
  assert document.stale(make(1), tmp_path) == ['p.png']
  document.write(make(1), tmp_path)
  assert (tmp_path / 'p.png').read_bytes() == whole
