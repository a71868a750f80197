"""The commands of an installed package: `lora-jax train ...` and `python -m lora_jax train ...`.

Each is a module of `experiments`, and does what `python -m experiments.train ...` does in a
checkout. A wheel has `experiments` and `configs` inside of this package, in `_commands`: they are
importable in the process of a command and its children, and clash with nobody's.
"""

from __future__ import annotations

import ast
import os
import runpy
import sys
from pathlib import Path

import lora_jax
from lora_jax.errors import nearest
from lora_jax.extras import MissingExtra

PACKAGE = Path(__file__).resolve().parent
INSTALLED = PACKAGE / '_commands'
USAGE = 'lora-jax COMMAND [--flag=value ...]    or: python -m lora_jax COMMAND ...'
MORE = 'lora-jax COMMAND --help shows the flags of a command; lora-jax --version the version.'


def main() -> None:
  """Runs the command that the first argument names; exits with 2 if no command has that name."""
  # In a checkout `experiments` stands beside the package.
  folder = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent
  name, *arguments = sys.argv[1:] or ['--help']
  known = commands(folder)
  if name in ('-h', '--help', 'help'):
    width = max(map(len, known))
    rows = (f'  {command:{width}}  {meaning}' for command, meaning in known.items())
    print(f'{USAGE}\n', *rows, f'\n{MORE}', sep='\n')
  elif name == '--version':
    print(f'lora_jax {lora_jax.__version__}')
  elif name not in known:
    print(f'error: no command {name!r}. {nearest(name, known)}', file=sys.stderr)
    sys.exit(2)
  else:
    run(folder, name, arguments)


def commands(folder: Path) -> dict[str, str]:
  """The commands below a folder, each with the first sentence of its documentation."""
  found = {}
  for path in sorted((folder / 'experiments').glob('[!_]*.py')):
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    found[path.stem] = text.splitlines()[0].partition(': `')[0].rstrip('.:') + '.'
  return found


def run(folder: Path, name: str, arguments: list[str]) -> None:
  """Runs a command of a folder as the main module, with these arguments."""
  sys.path.insert(0, str(folder))
  path = os.environ.get('PYTHONPATH')
  os.environ['PYTHONPATH'] = os.pathsep.join([str(folder), *([path] if path else [])])
  sys.argv[1:] = arguments
  try:
    runpy.run_module(f'experiments.{name}', run_name='__main__', alter_sys=True)
  except MissingExtra as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)


if __name__ == '__main__':
  main()
