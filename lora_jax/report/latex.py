"""The tables of pages as LaTeX, for `\\usepackage{booktabs}`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lora_jax import files
from lora_jax.report.document import Page, Table

# fmt: off
SIGNS = {
  '\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_',
  '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}', '±': r'$\pm$',
  '†': r'$\dagger$', 'Δ': r'$\Delta$', '‖': r'$\Vert$', 'ᵀ': r'$^\top$', 'φ': r'$\phi$',
  '<': r'$<$', '>': r'$>$', '|': r'$|$',
}
# fmt: on


def write(pages: Sequence[Page], folder: Path) -> list[Path]:
  """Writes the tables of each page that has some, `table-6.tex`, and returns the files."""
  folder.mkdir(parents=True, exist_ok=True)
  texts = {folder / f'{page.name}.tex': latex(page) for page in pages if page.name != 'README'}
  for path, text in texts.items():
    if text:
      files.write_atomic(path, text)
  return [path for path, text in texts.items() if text]


def latex(page: Page) -> str:
  """All tables of a page; '' if it has none."""
  tables = [block for block in page.blocks if isinstance(block, Table)]
  return '\n'.join(_table(table, f'{page.name}-{i}') for i, table in enumerate(tables, 1))


def escape(text: str) -> str:
  """The Markdown of an entry or caption as LaTeX: code, bold, links, signs."""
  text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', text)
  text = ''.join(SIGNS.get(sign, sign) for sign in text)
  text = re.sub(r'`([^`]*)`', r'\\texttt{\1}', text)
  return re.sub(r'\*\*(.+?)\*\*', r'\\textbf{\1}', text)


def _table(table: Table, label: str) -> str:
  names = list(table.rows[0])
  line = lambda entries: ' & '.join(map(escape, entries)) + r' \\'
  return '\n'.join(
    [
      r'\begin{table}',
      r'\centering',
      rf'\caption{{{escape(table.caption)}}}',
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
