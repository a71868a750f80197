"""A page of the results as blocks, and its two forms: Markdown with its pictures, and LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lora_jax.report import charts, tables
from lora_jax.report.charts import Picture

MADE = 'Made by `python -m experiments.report` from the files in `results/runs`; do not edit.'
NOT_RUN = 'not run'


class Table(NamedTuple):
  """Rows of equal keys under a caption; `folded` ones are provenance, opened by a click."""

  rows: Sequence[Mapping[str, str]]
  caption: str
  folded: bool = False


class Commands(NamedTuple):
  """Command lines, after what they are of."""

  title: str
  lines: Sequence[str]


Block = str | Table | Commands | Picture


class Page(NamedTuple):
  """A table or figure of the paper, or another subject.

  Attributes:
    name: of its file, without .md.
    title: `Table 6: the rank`.
    ours: what of it was measured here, in a few words, for the index.
    blocks: in order; a text is a paragraph or a heading.
  """

  name: str
  title: str
  ours: str
  blocks: Sequence[Block]

  @property
  def pictures(self) -> list[Picture]:
    """Those among the blocks."""
    return [block for block in self.blocks if isinstance(block, Picture)]


def markdown(page: Page) -> str:
  """The page's file."""
  parts = [f'# {page.title}', MADE, *map(_markdown, page.blocks)]
  return '\n\n'.join(part.strip('\n') for part in parts) + '\n'


def latex(page: Page) -> str:
  """All tables of a page, for `\\usepackage{booktabs}`; '' if there is none."""
  found = [block for block in page.blocks if isinstance(block, Table)]
  texts = [_latex(table, f'{page.name}-{i}') for i, table in enumerate(found, 1)]
  return '\n'.join(texts)


def write(pages: Sequence[Page], folder: Path, redraw: bool = False) -> list[Path]:
  """Writes pages and those pictures whose numbers are not those of the file that is there.

  Those that were made so once and are no longer are removed.

  Args:
    pages: to write.
    folder: that holds them, besides `runs`.
    redraw: draw every picture, as after a change of how they are drawn.

  Returns:
    the files written.
  """
  written = []
  for page in pages:
    (folder / f'{page.name}.md').write_text(markdown(page))
    written.append(folder / f'{page.name}.md')
    for picture in page.pictures:
      if redraw or not picture.is_drawn(folder):
        written.append(picture.draw(folder))
  for path in _left_over(pages, folder):
    path.unlink()
  return written


def write_latex(pages: Sequence[Page], folder: Path) -> list[Path]:
  """Writes the tables of each page that has some, `table-6.tex`, and returns the files."""
  folder.mkdir(parents=True, exist_ok=True)
  texts = {folder / f'{page.name}.tex': latex(page) for page in pages if page.name != 'README'}
  for path, text in texts.items():
    if text:
      path.write_text(text)
  return [path for path, text in texts.items() if text]


def stale(pages: Sequence[Page], folder: Path) -> list[str]:
  """Names of the files of a folder that are not what the pages are: changed, missing or left over.

  A picture counts by the numbers that it was drawn of, which its file names: the same numbers give
  other pixels with another version of matplotlib or its fonts.
  """
  texts = {f'{page.name}.md': markdown(page) for page in pages}
  found = [
    name
    for name, text in texts.items()
    if not (folder / name).exists() or (folder / name).read_text() != text
  ]
  pictures = [picture for page in pages for picture in page.pictures]
  found += [f'{picture.name}.png' for picture in pictures if not picture.is_drawn(folder)]
  return sorted([*found, *(path.name for path in _left_over(pages, folder))])


def _left_over(pages: Sequence[Page], folder: Path) -> list[Path]:
  """Files that this module made once and that are of none of the pages."""
  names = {f'{page.name}.md' for page in pages}
  names |= {f'{picture.name}.png' for page in pages for picture in page.pictures}
  made = [path for path in folder.glob('*.md') if MADE in path.read_text()]
  made += [path for path in folder.glob('*.png') if charts.digest_of(path)]
  return [path for path in made if path.name not in names]


def _markdown(block: Block) -> str:
  if isinstance(block, Picture):
    return f'![{block.alt}]({block.name}.png)'
  if isinstance(block, Commands):
    lines = '\n'.join(f'    {line}' for line in block.lines)
    if len(block.lines) <= 3:
      return f'{_filled(block.title)}\n\n{lines}'
    count = f'<details><summary>{len(block.lines)} commands</summary>'
    return f'{_filled(block.title)}\n\n{count}\n\n{lines}\n\n</details>'
  if isinstance(block, Table):
    text = tables.table(block.rows)
    if block.folded:
      return f'<details><summary>{block.caption}</summary>\n\n{text}\n</details>'
    return f'{_filled(block.caption)}\n\n{text}'
  return block if block.startswith('#') or '\n- ' in block else _filled(block)


def _filled(text: str) -> str:
  """A paragraph in lines of 100."""
  words = ' '.join(text.split())
  return textwrap.fill(words, 100, break_long_words=False, break_on_hyphens=False)


SIGNS = {
  '\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_',
  '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}', '±': r'$\pm$',
  '†': r'$\dagger$', 'Δ': r'$\Delta$', '‖': r'$\Vert$', 'ᵀ': r'$^\top$', 'φ': r'$\phi$',
  '<': r'$<$', '>': r'$>$', '|': r'$|$',
}  # fmt: skip


def tex(text: str) -> str:
  """A cell's or caption's Markdown as LaTeX: code, bold, links, signs."""
  text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', text)
  text = ''.join(SIGNS.get(sign, sign) for sign in text)
  text = re.sub(r'`([^`]*)`', r'\\texttt{\1}', text)
  return re.sub(r'\*\*(.+?)\*\*', r'\\textbf{\1}', text)


def _latex(table: Table, label: str) -> str:
  names = list(table.rows[0])
  line = lambda cells: ' & '.join(map(tex, cells)) + r' \\'
  return '\n'.join(
    [
      r'\begin{table}',
      r'\centering',
      rf'\caption{{{tex(table.caption)}}}',
      rf'\label{{tab:{label}}}',
      rf'\begin{{tabular}}{{{"l" * len(names)}}}',
      r'\toprule',
      line(names),
      r'\midrule',
      *(line(row[name] for name in names) for row in table.rows),
      r'\bottomrule',
      r'\end{tabular}',
      r'\end{table}',
      '',
    ]
  )
