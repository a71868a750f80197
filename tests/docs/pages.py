"""The code of the documentation's pages: its blocks, and how they are run.

A page in Markdown holds fences of these kinds, and no other code:

  ```python              run, in the order of the page, in one namespace
  ```output              what the Python block before it has printed; `...` stands for any text
  ```console             commands, of which `commands.py` parses each
  ```text                a formula or a tree of names; nothing to run
  ```{code-block} csv    with the option `:caption: NAME`, a file that later blocks read
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
KINDS = ('python', 'output', 'console', 'text', 'file')
# Directives of MyST and Sphinx, which are prose or markup.
MARKUP = ('include', 'toctree', 'eval-rst', 'note', 'warning', 'tip', 'image', 'figure')
FENCE = re.compile(r'^(?P<marks>`{3,}|~{3,})(?P<info>[^`]*)$')


class Block(NamedTuple):
  """A fence of a page.

  Attributes:
    kind: one of `KINDS`.
    line: the number of its first line of content.
    text: its content.
    name: of a file its name.
  """

  kind: str
  line: int
  text: str
  name: str = ''


def sources(docs: Path = DOCS) -> list[Path]:
  """The pages that are written by hand; `docs/generated` and `docs/build` hold the others."""
  made = ('generated', 'build')
  return [
    path for path in sorted(docs.rglob('*.md')) if path.relative_to(docs).parts[0] not in made
  ]


def blocks(text: str) -> list[Block]:
  """The code of a page.

  Raises:
    ValueError: for a fence of another kind, one that is not closed, or indented code, with its
      line: a block that no test would run.
  """
  found: list[Block] = []
  lines = text.splitlines()
  number = 0
  while number < len(lines):
    opened = FENCE.match(lines[number].strip())
    number += 1
    if not opened:
      if re.match(r' {4,}\S', lines[number - 1]) and not (number > 1 and lines[number - 2].strip()):
        raise ValueError(f'line {number}: indented code; give it a fence, so that it is run')
      continue
    first = number
    while number < len(lines) and lines[number].strip() != opened['marks']:
      number += 1
    if number == len(lines):
      raise ValueError(f'line {first}: the fence is not closed')
    inside = lines[first:number]
    number += 1
    if block := _block(opened['info'].strip(), inside, first + 1):
      found.append(block)
  return found


def _block(info: str, lines: list[str], line: int) -> Block | None:
  kind, _, rest = info.partition(' ')
  if kind.startswith('{') and kind.strip('{}') in MARKUP:
    return None
  text = '\n'.join(lines) + '\n'
  if kind != '{code-block}':
    if kind not in KINDS[:-1] or rest:
      raise ValueError(f'line {line - 1}: {info!r}: no test would run it; known: {KINDS[:-1]}')
    return Block(kind, line, text)
  option = re.match(r':caption: (\S+)$', lines[0]) if lines else None
  if not option or rest in ('python', 'console'):
    raise ValueError(f'line {line - 1}: {info}: expected the option `:caption: NAME` of a file')
  return Block('file', line, '\n'.join(lines[1:]).lstrip('\n') + '\n', option[1])


def run(
  page: Path,
  names: dict[str, object] | None = None,
  shell: Callable[[str], object] = lambda command: None,
) -> int:
  """Runs the Python of a page in the working directory; returns how many blocks were run.

  Args:
    page: the page.
    names: the namespace of its blocks.
    shell: called with each command of a console block in its place; does nothing by default.

  Raises:
    AssertionError: if a block prints other than the page says.
    Exception: what a block raises; its traceback has the line of the page.
  """
  names = {'__name__': '__main__'} if names is None else names
  printed, count = '', 0
  for block in blocks(page.read_text(encoding='utf-8')):
    if block.kind == 'file':
      Path(block.name).parent.mkdir(parents=True, exist_ok=True)
      Path(block.name).write_text(block.text)
    elif block.kind == 'python':
      source = '\n' * (block.line - 1) + block.text
      with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(source, str(page), 'exec'), names)
      printed, count = out.getvalue(), count + 1
    elif block.kind == 'console':
      for command in shell_lines(block.text):
        shell(command)
    elif block.kind == 'output':
      assert agrees(printed, block.text), (
        f'{page.name}:{block.line}: the block printed\n{printed}\nthe page says\n{block.text}'
      )
  return count


def agrees(printed: str, said: str) -> bool:
  """Whether a text is what a page says of it, in which `...` stands for any text."""
  tidy = lambda text: '\n'.join(line.rstrip() for line in text.strip().splitlines())
  pattern = '.*?'.join(map(re.escape, tidy(said).split('...')))
  return re.fullmatch(pattern, tidy(printed), re.S) is not None


def shell_lines(text: str) -> Iterator[str]:
  """The commands of a console block: continued lines joined, comments and prompts removed."""
  for line in re.sub(r'\\\n\s*', '', text).splitlines():
    if line := re.sub(r'(^|\s)#.*$', '', line).removeprefix('$ ').strip():
      yield line


def commands(docs: Path = DOCS) -> Mapping[str, str]:
  """Every command of the README and of every page, by `page:line`, with those of included files.

  A command at the end of a row of a table counts as well.
  """
  found: dict[str, str] = {}
  for path in (docs.parent / 'README.md', *sources(docs)):
    text = path.read_text(encoding='utf-8')
    shown = [(block.line, block.text) for block in blocks(text) if block.kind == 'console']
    for line, row in enumerate(text.splitlines(), 1):
      shown += [(line, one) for one in re.findall(r'^\|.* `(python -m [^`]+)` \|$', row)]
    for name in re.findall(r'^```\{include\} (\S+)$', text, re.M):
      shown.append((1, included_commands((path.parent / name).read_text(encoding='utf-8'))))
    for line, block in shown:
      for index, command in enumerate(shell_lines(block)):
        found[f'{path.relative_to(docs.parent)}:{line}+{index}'] = command
  return found


def included_commands(text: str) -> str:
  """The lines of a README's indented code that begin a command of this project, or continue it."""
  kept, continued = [], False
  for line in text.splitlines():
    if continued or line.startswith('    python -m '):
      kept.append(line)
      continued = line.endswith('\\')
  return '\n'.join(kept)
