"""Sphinx's settings; `make docs` builds with them, and every warning is an error."""

import re
import sys
from pathlib import Path

from docutils import nodes

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

generate.write(HERE / 'generated')

project = 'lora_jax'
author = 'the lora_jax authors'
extensions = [
  'myst_parser',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
]
exclude_patterns = ['build', 'notebooks']
smartquotes = False  # Defaults in tables are code: '' is not a quotation.
html_theme = 'sphinx_book_theme'
html_title = 'lora_jax'
html_theme_options = {'show_toc_level': 2, 'use_download_button': False}
html_copy_source = False
html_static_path = ['static']
html_css_files = ['page.css']
myst_heading_anchors = 3
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [('Attributes', 'params_style')]  # A list, as that of arguments.
default_role = 'code'
autodoc_inherit_docstrings = False
# Types of one name in several modules (`Row`): the link leads to one of them.
suppress_warnings = ['ref.python']


def as_rst(lines: list[str]) -> list[str]:
  """A docstring of this project as reStructuredText.

  The docstrings are plain text, with code in single backticks or, after a blank line, indented by
  four. Outside of code the characters that reStructuredText would read as markup are escaped.
  """
  found: list[str] = []
  prose: list[str] = []
  inside = False
  for i, line in enumerate(lines):
    indented = line.startswith('    ') and (inside or (i > 0 and not lines[i - 1].strip()))
    if line.strip() and indented != inside:
      inside = indented
      if inside:
        found += [*_escaped(prose), '', '::', '']
        prose = []
    (found if inside else prose).append(line)
  return [*found, *_escaped(prose)]


def _escaped(lines: list[str]) -> list[str]:
  parts = re.split(r'(`[^`]+`)', '\n'.join(lines))
  for i, part in enumerate(parts):
    if i % 2:
      parts[i] = f'``{part[1:-1].strip()}``' + ('\\ ' if re.match(r'\w', parts[i + 1]) else '')
    else:
      # Napoleon escapes the first name of a line, as that of `*inputs, **kwargs:`.
      part = re.sub(r'\*', r'\\*', part)
      part = re.sub(r'(?m)^ *(?:\\\*)+(?=\w+(?:, (?:\\\*)+\w+)*:)', _unescaped, part)
      parts[i] = re.sub(r'\|', r'\\|', re.sub(r'(?<=\w)_(?=\W|$)', r'\_', part))
  return ''.join(parts).split('\n')


def _unescaped(match: re.Match[str]) -> str:
  return match[0].replace('\\', '')


def setup(app: object) -> None:
  """Connects the translation of docstrings, which comes before that of their sections."""

  def translate(app, what, name, thing, options, lines):
    lines[:] = as_rst(lines)

  def dash(app, doctree, name):  # Sphinx's own, between an argument and its description.
    for node in [node for node in doctree.findall(nodes.Text) if node == ' -- ']:
      node.parent.replace(node, nodes.Text(' \N{EN DASH} '))

  def skip(app, what, name, thing, skipped, options):
    # Fields of a NamedTuple, which `Attributes:` describes.
    return True if 'Alias for field number' in (getattr(thing, '__doc__', '') or '') else None

  app.connect('autodoc-process-docstring', translate, priority=400)
  app.connect('doctree-resolved', dash)
  app.connect('autodoc-skip-member', skip)
