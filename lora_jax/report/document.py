"""A page of the results as blocks, its Markdown, and the files that pages are written to."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lora_jax import files
from lora_jax.report import charts
from lora_jax.report.charts import Picture

MADE = 'Made by `python -m experiments.report` from the files in `runs`; do not edit.'
NOT_RUN = 'not run'
KEPT = {'break_long_words': False, 'break_on_hyphens': False}


class Table(NamedTuple):
  """Rows of equal keys under a caption; a `folded` one is provenance and opens by a click."""

  rows: Sequence[Mapping[str, str]]
  caption: str
  folded: bool = False


Block = str | Table | Picture


class Page(NamedTuple):
  """A page about a table or figure of the paper, or about another subject.

  Attributes:
    name: the file's, without .md.
    title: `Table 6: the rank`.
    ours: what was measured here, in a few words; '' if nothing was.
    blocks: in order; a text is a paragraph, a heading, a list or a quotation.
    number: of the table or figure of the paper, as `experiments.reproduce` takes it; '' of none.
  """

  name: str
  title: str
  ours: str
  blocks: Sequence[Block]
  number: str = ''

  @property
  def pictures(self) -> list[Picture]:
    """The pictures among the blocks."""
    return [block for block in self.blocks if isinstance(block, Picture)]


def markdown(page: Page) -> str:
  """The text of the page's file."""
  parts = [f'# {page.title}', *map(_markdown, page.blocks), MADE]
  return '\n\n'.join(part.strip('\n') for part in parts) + '\n'


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
  """Rows of equal keys as a Markdown table."""
  names = list(rows[0])
  lines = ['| ' + ' | '.join(names) + ' |', '|' + '---|' * len(names)]
  lines += ['| ' + ' | '.join(row[name] for name in names) + ' |' for row in rows]
  return '\n'.join(lines) + '\n'


def aligned_table(rows: Sequence[Mapping[str, str]]) -> str:
  """Rows of equal keys as aligned text for a terminal, the first column to the left."""
  lines = [list(rows[0]), *(list(row.values()) for row in rows)]
  first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
  return '\n'.join(
    f'{name:{first}}' + ''.join(f'{entry:>{width + 2}}' for entry, width in zip(entries, widths))
    for name, *entries in lines
  )


def write(pages: Sequence[Page], folder: Path, redraw: bool = False) -> list[Path]:
  """Writes pages, and the pictures whose numbers are not those of the file in the folder.

  Files of pages and pictures that no longer exist are removed.

  Args:
    pages: to write.
    folder: the folder that holds them beside `runs`.
    redraw: draw every picture, as after a change of how they are drawn.

  Returns:
    the files written.
  """
  written = []
  for page in pages:
    path = folder / f'{page.name}.md'
    files.write_atomic(path, markdown(page))
    written.append(path)
    for picture in page.pictures:
      if redraw or not picture.is_drawn(folder):
        written.append(picture.draw(folder))
  for path in _left_over(pages, folder):
    path.unlink()
  return written


def stale(pages: Sequence[Page], folder: Path) -> list[str]:
  """The names of a folder's files that differ from the pages: changed, missing or left over.

  A picture is compared by the digest of its numbers, which its file names: the same numbers give
  other pixels with another version of matplotlib or its fonts.
  """
  texts = {f'{page.name}.md': markdown(page) for page in pages}
  found = [
    name
    for name, text in texts.items()
    if not (folder / name).exists() or (folder / name).read_text(encoding='utf-8') != text
  ]
  pictures = [picture for page in pages for picture in page.pictures]
  found += [f'{picture.name}.png' for picture in pictures if not picture.is_drawn(folder)]
  return sorted([*found, *(path.name for path in _left_over(pages, folder))])


def _left_over(pages: Sequence[Page], folder: Path) -> list[Path]:
  """Files that this module wrote for other pages than these."""
  names = {f'{page.name}.md' for page in pages}
  names |= {f'{picture.name}.png' for page in pages for picture in page.pictures}
  written = [path for path in folder.glob('*.md') if MADE in path.read_text(encoding='utf-8')]
  written += [path for path in folder.glob('*.png') if charts.digest_of(path)]
  return [path for path in written if path.name not in names]


def _markdown(block: Block) -> str:
  if isinstance(block, Picture):
    return f'![{block.alt}]({block.name}.png)'
  if isinstance(block, Table):
    text = markdown_table(block.rows)
    if block.folded:
      return f'<details><summary>{block.caption}</summary>\n\n{text}\n</details>'
    return f'{_fill(block.caption)}\n\n{text}'
  if block.startswith('> '):
    return textwrap.fill(' '.join(block.split()), 100, subsequent_indent='> ', **KEPT)
  return block if block.startswith(('#', '- ')) or '\n- ' in block else _fill(block)


def _fill(text: str) -> str:
  """A paragraph in lines of at most 100 characters."""
  words = ' '.join(text.split())
  return textwrap.fill(words, 100, **KEPT)
