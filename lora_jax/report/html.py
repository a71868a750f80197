"""All pages as one HTML file that needs no other: tables, and pictures in the file itself."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from lora_jax import files
from lora_jax.report import document
from lora_jax.report.charts import Picture
from lora_jax.report.document import Block, Page

NAME = 'report.html'
LINK = re.compile(r'href="([\w-]+)\.md"')
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 72rem;
  margin: 0 auto; padding: 0 1rem 4rem; }
nav { columns: 18rem; font-size: 0.9rem; padding: 1rem 0; border-bottom: 1px solid #ccc; }
nav a { display: block; }
section { border-top: 3px solid #ddd; margin-top: 3rem; }
h1 { font-size: 1.5rem; }
a { color: #1f5fa8; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 0.5rem 0 1.5rem; }
th, td { border: 1px solid #ddd; padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; }
th { background: #f4f4f4; position: sticky; top: 0; }
blockquote { border-left: 4px solid #d62728; margin: 1rem 0; padding: 0.2rem 1rem;
  background: #faf6f6; }
code { background: #f4f4f4; padding: 0 0.2em; }
img { max-width: 100%; height: auto; }
"""


def render(pages: Sequence[Page], folder: Path) -> str:
  """The text of the file.

  Args:
    pages: in their order; the first is the index.
    folder: that holds their pictures, drawn.
  """
  # Without HTML in Markdown: the name of a run is text, whatever is in it.
  markdown = MarkdownIt('commonmark', {'html': False}).enable('table')
  links = ''.join(f'<a href="#{page.name}">{escape(page.title)}</a>' for page in pages)
  sections = [_section(page, folder, markdown) for page in pages]
  title = escape(pages[0].title)
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{title}</title><style>{STYLE}</style></head>\n'
    f'<body><nav>{links}</nav>\n{"".join(sections)}</body></html>\n'
  )


def write(pages: Sequence[Page], folder: Path) -> Path:
  """Writes the file beside the pages, whose pictures are drawn, and returns its path."""
  path = folder / NAME
  files.write_atomic(path, render(pages, folder))
  return path


def _section(page: Page, folder: Path, markdown: MarkdownIt) -> str:
  blocks = ''.join(_block(block, folder, markdown) for block in page.blocks)
  # A link to another page is one to its section.
  return LINK.sub(
    r'href="#\1"', f'<section id="{page.name}"><h1>{escape(page.title)}</h1>\n{blocks}</section>\n'
  )


def _block(block: Block, folder: Path, markdown: MarkdownIt) -> str:
  if isinstance(block, Picture):
    data = base64.b64encode((folder / f'{block.name}.png').read_bytes()).decode()
    return f'<p><img alt="{escape(block.alt)}" src="data:image/png;base64,{data}"></p>\n'
  if isinstance(block, str):
    return markdown.render(block)
  table = f'<div class="wide">{markdown.render(document.markdown_table(block.rows))}</div>'
  if block.folded:
    return f'<details><summary>{escape(block.caption)}</summary>{table}</details>\n'
  return f'{markdown.render(block.caption)}{table}\n'
