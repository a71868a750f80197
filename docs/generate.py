"""The pages of the documentation that are made from the code and from `results`.

`conf.py` calls `write` before each build. Nothing in `docs/generated` is edited or committed.
"""

from __future__ import annotations

import ast
import base64
import html
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from lora_jax import fields

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'lora_jax'
# Rooms of the package in the order of the README's map, with what each is for.
SECTIONS = {
  '': (fields.FIELDS, 'Of every run.'),
  'method': (fields.METHOD, 'Options of the methods; each method has some of them.'),
  'own': (fields.OWN, 'Files of your own and the names of their columns (`configs/own.py`).'),
  'model.fresh': (fields.FRESH, 'The architecture of a model without pretrained weights.'),
}
MADE = 'This page is made from the code when the documentation is built.\n'


def write(folder: Path, results: Path = ROOT / 'results') -> None:
  """Writes all generated pages into an empty folder."""
  shutil.rmtree(folder, ignore_errors=True)
  pages = {
    'config.md': config_page(),
    'commands.md': commands_page(),
    'configs.md': configs_page(),
    'arrows.md': arrows_page(),
    **{f'api/{name}.md': text for name, text in api_pages().items()},
    **{f'results/{name}': text for name, text in results_pages(results).items()},
  }
  for name, text in pages.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding='utf-8')
  for picture in results.glob('*.png'):
    shutil.copy(picture, folder / 'results' / picture.name)
  for path in sorted((ROOT / 'docs/notebooks').glob('*.ipynb')):
    notebook_page(path, folder / 'notebooks')


def config_page() -> str:
  """Every field of a config: default, allowed values and meaning, from `lora_jax/fields.py`."""
  lines = ['# Fields of a config\n', MADE]
  lines += [
    'A field is set on the command line by `--config.NAME=VALUE`, as `--config.optim.lr=2e-4`. An',
    'unknown name and a value out of its range are errors. Source: `lora_jax/fields.py`.\n',
  ]
  for section, (table, about) in SECTIONS.items():
    lines.append(f'## {section or "Sections of every config"}\n\n{about}\n')
    lines.append('| field | default | allowed | meaning |\n|---|---|---|---|')
    for name, field in table.items():
      path = f'{section}.{name}' if section else name
      row = (f'`{path}`', f'`{field.default!r}`', field.expected, field.meaning)
      lines.append('| ' + ' | '.join(map(_escape, row)) + ' |')
    lines.append('')
  return '\n'.join(lines)


def _escape(text: str) -> str:
  return re.sub(r'\s*\n\s*', ' ', text).replace('|', '\\|')


def commands_page() -> str:
  """Every command: its docstring and its flags, read from the source."""
  lines = ['# Commands\n', MADE]
  lines.append('Every command is a module of `experiments`, and `--help` lists its flags.\n')
  for path in sorted((ROOT / 'experiments').glob('[a-z]*.py')):
    module = ast.parse(path.read_text(encoding='utf-8'))
    first, _, rest = (ast.get_docstring(module) or '').partition('\n')
    lines += [f'## experiments.{path.stem}\n', _prose(f'{first}\n{rest}'), '']
    if rows := list(_flags(module)):
      lines.append('| flag | default | meaning |\n|---|---|---|')
      lines += ['| ' + ' | '.join(map(_escape, row)) + ' |' for row in rows]
      lines.append('')
  return '\n'.join(lines)


def _flags(module: ast.Module) -> Iterator[tuple[str, str, str]]:
  """Name, default and help of each flag that a module defines by `flags.DEFINE_...`."""
  for node in ast.walk(module):
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
      continue
    kind, arguments = node.func.attr, node.args
    if not kind.startswith('DEFINE_') or not arguments or kind == 'DEFINE_alias':
      continue
    if not isinstance(arguments[0], ast.Constant):
      continue
    required = any(keyword.arg == 'required' for keyword in node.keywords)
    default = 'required' if required else f'`{ast.unparse(arguments[1])}`'
    meaning = arguments[-1]
    said = meaning.value if isinstance(meaning, ast.Constant) else 'See the command.'
    if kind == 'DEFINE_config_file':
      said = 'Config file, followed by a colon and its argument: `configs/glue.py:task=mrpc`.'
    yield f'`--{arguments[0].value}`', default, str(said)


def _prose(text: str) -> str:
  """A docstring as Markdown: paragraphs with indented lines, commands or tables, are code."""
  parts: list[tuple[bool, list[str]]] = []
  for paragraph in re.split(r'\n\s*\n', text.strip('\n')):
    lines = paragraph.splitlines()
    is_code = any(line.startswith('  ') for line in lines)
    if all(line.startswith('  ') for line in lines):
      lines = [line[2:] for line in lines]
    if is_code and parts and parts[-1][0]:
      parts[-1][1].extend(['', *lines])
    else:
      parts.append((is_code, lines))
  fenced = lambda lines: ['```', *lines, '```']
  escaped = lambda lines: [html.escape(line, quote=False) for line in lines]
  made = [fenced(lines) if is_code else escaped(lines) for is_code, lines in parts]
  return '\n\n'.join('\n'.join(lines) for lines in made) + '\n'


def configs_page() -> str:
  """Every config file: its docstring, with its argument and its presets."""
  lines = ['# Config files\n', MADE]
  lines += [
    'A config file is named by `--config=configs/NAME.py:ARGUMENT`. The argument chooses a row;',
    'each [field](config.md) can be changed besides.\n',
  ]
  for path in sorted((ROOT / 'configs').glob('[a-z]*.py')):
    module = ast.parse(path.read_text(encoding='utf-8'))
    lines += [f'## configs/{path.name}\n', _prose(ast.get_docstring(module) or ''), '']
  return '\n'.join(lines)


def arrows() -> Mapping[str, set[str]]:
  """What each room may import, as the structure's test has it."""
  module = ast.parse((ROOT / 'tests/test_architecture.py').read_text(encoding='utf-8'))
  for node in module.body:
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'ARROWS':
      source = ast.unparse(node.value)
      return eval(source, {'set': set})  # A literal with `set()` in it, of this project.
  raise ValueError('tests/test_architecture.py has no ARROWS')


def levels(graph: Mapping[str, set[str]]) -> list[list[str]]:
  """The rooms from the lowest up: each imports rooms of lower levels alone."""
  left, placed, found = dict(graph), set[str](), list[list[str]]()
  while left:
    level = sorted(name for name, imports in left.items() if imports <= placed)
    if not level:
      raise ValueError(f'rooms that import each other: {sorted(left)}')
    found.append(level)
    placed |= set(level)
    left = {name: imports for name, imports in left.items() if name not in placed}
  return found


def arrows_page() -> str:
  """The rooms of the package in levels, and what each imports."""
  graph = arrows()
  lines = [
    '# Rooms and arrows\n',
    MADE,
    'A room imports only what its line names. Source: `ARROWS` in `tests/test_architecture.py`, a',
    'test that fails when a module imports anything else, and when an arrow is not used.\n',
    '| level | room | what it is | imports |\n|---|---|---|---|',
  ]
  for number, level in enumerate(levels(graph)):
    for name in level:
      imports = ', '.join(f'`{other}`' for other in sorted(graph[name]))
      lines.append(f'| {number} | `{name}` | {_escape(_summary(name))} | {imports or "-"} |')
  return '\n'.join(lines) + '\n'


def _summary(room: str) -> str:
  """The first sentence of a room's docstring; `lora_jax` is the package itself."""
  text = _file(room).read_text(encoding='utf-8')
  paragraph = (ast.get_docstring(ast.parse(text)) or '-').split('\n\n')[0]
  return re.sub(r'\s+', ' ', paragraph).strip()


def _file(room: str) -> Path:
  if room == 'lora_jax':
    return PACKAGE / '__init__.py'
  folder = PACKAGE / room
  return folder / '__init__.py' if folder.is_dir() else folder.with_suffix('.py')


def api_pages() -> dict[str, str]:
  """A page of reference for the public names, and one for each room."""
  public = '\n'.join(
    f'.. autofunction:: lora_jax.{name}' if name.islower() else f'.. autoclass:: lora_jax.{name}'
    for name in public_names()
    if name != 'METHODS'
  )
  text = '\n'.join(
    [
      '# The public names\n',
      'What `import lora_jax` offers. Each entry says shapes, errors and, by the link, its source.',
      '`lora_jax.METHODS` maps the name of each method to the function that makes it.\n',
      '```{eval-rst}',
      public,
      '```\n',
    ]
  )
  pages = {'public': text}
  for room in sorted(arrows().keys() - {'lora_jax'}):
    lines = [f'# lora_jax.{room}\n']
    for module in _modules(room):
      title = '' if module == f'lora_jax.{room}' else f'## {module}\n'
      lines += [title, '```{eval-rst}', f'.. automodule:: {module}']
      lines += ['   :members:', '   :show-inheritance:', '```', '']
    pages[room] = '\n'.join(lines)
  rooms = '\n'.join(room for room in pages if room != 'public')
  about = 'Every public function and class of the package, room by room.'
  pages['rooms'] = f'# The rooms of the package\n\n{about}\n\n```{{toctree}}\n{rooms}\n```\n'
  return pages


def public_names() -> list[str]:
  """The names that `lora_jax/__init__.py` gives on, in its order."""
  module = ast.parse((PACKAGE / '__init__.py').read_text(encoding='utf-8'))
  return [
    alias.asname
    for node in ast.walk(module)  # Those of NNX are imported when they are first used.
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
    if alias.asname
  ]


def _modules(room: str) -> Iterator[str]:
  folder = PACKAGE / room
  files = sorted(folder.rglob('*.py')) if folder.is_dir() else [folder.with_suffix('.py')]
  for path in files:
    parts = path.relative_to(ROOT).with_suffix('').parts
    if not any(part.startswith('_') and part != '__init__' for part in parts):
      yield '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def results_pages(results: Path) -> dict[str, str]:
  """The pages of `results` as they are; the first is the index of the others."""
  pages = {path.name: _raised(path.read_text('utf-8')) for path in sorted(results.glob('*.md'))}
  others = '\n'.join(name for name in pages if name != 'README.md')
  index = pages.pop('README.md').replace('(README.md)', '(index.md)')
  pages['index.md'] = f'{index}\n```{{toctree}}\n:hidden:\n\n{others}\n```\n'
  return pages


def _raised(text: str) -> str:
  """A page with headings of the third level under its title, as Sphinx wants them: the second."""
  if re.search('^## ', text, re.M):
    return text
  return re.sub('^##(?=#+ )', '#', text, flags=re.M)


def _moved(link: re.Match[str]) -> str:
  return '](../results/' if link[1] else '](../../'


def notebook_page(path: Path, folder: Path) -> None:
  """Writes a notebook as a page, with its outputs as they were committed, and its pictures."""
  folder.mkdir(parents=True, exist_ok=True)
  parts = []
  for number, cell in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells']):
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown':  # Its links are those of docs/notebooks.
      parts.append(re.sub(r'\]\(\.\./(\.\./results/)?', _moved, source))
      continue
    parts.append(f'```python\n{source}\n```')
    for output in cell['outputs']:
      data = output.get('data', {})
      if 'image/png' in data:
        picture = folder / f'{path.stem}-{number}.png'
        picture.write_bytes(base64.b64decode(''.join(data['image/png'])))
        parts.append(f'![The picture that this cell draws]({picture.name})')
      else:
        said = ''.join(output.get('text', data.get('text/plain', '')))
        parts.append(f'```text\n{said.rstrip()}\n```')
  title, _, rest = '\n\n'.join(parts).partition('\n')
  link = f'\n\nThis page is {{download}}`a notebook <../../notebooks/{path.name}>`.\n'
  (folder / f'{path.stem}.md').write_text(title + link + rest + '\n', encoding='utf-8')
