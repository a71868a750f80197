"""The tables of pages as LaTeX."""

import re

from lora_jax.report import document, latex

ROWS = [{'a_b': '50 %', 'c': 'φ | x'}]
PAGE = document.Page('one', 'One', '', ['text', document.Table(ROWS, '`code` ±')])


def test_signs_are_escaped():
  text = latex.escape('`a_b` **±5 %** [x](y.md)')
  assert text == r'\texttt{a\_b} \textbf{$\pm$5 \%} x'
  tex = latex.latex(PAGE)
  assert not re.search(r'(?<!\\)[_#%]', re.sub(r'\\label\{.*\}', '', tex))
  assert r'a\_b & c \\' in tex and r'50 \% & $\phi$ $|$ x \\' in tex
  assert r'\caption{\texttt{code} $\pm$}' in tex and r'\label{tab:one-1}' in tex


def test_pages_with_tables_are_written(tmp_path):
  bare = PAGE._replace(name='two', blocks=['text'])
  index = PAGE._replace(name='README')
  assert [path.name for path in latex.write([PAGE, bare, index], tmp_path)] == ['one.tex']
  assert (tmp_path / 'one.tex').read_text().count(r'\begin{tabular}') == 1
