"""Parses the commands of pages as they would be parsed when they are run; nothing is run.

  python -m tests.docs.commands < LINES      # JSON {place: line}; prints JSON {place: problem}

Each command of this project is imported, its flags are parsed, its config is made and checked. One
process parses all lines: the flags of a command are removed before those of the next are defined.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from experiments import _cli, _hosts  # noqa: F401  (the flags of several hosts are defined once)
from lora_jax import fields

ROOT = Path(__file__).resolve().parents[2]
# Programs of others, which pages may show.
FOREIGN = ('cd', 'cp', 'docker', 'envsubst', 'export', 'gcloud', 'git', 'kubectl', 'kill', 'sky',
           'srun', 'tensorboard', 'cloud/tpu_vm.sh')  # fmt: skip


def problem(line: str) -> str:
  """What is wrong with a command; '' if nothing is."""
  words = [word for word in shlex.split(line) if not re.fullmatch(r'[A-Z_]+=\S*', word)]
  if words[0] == 'lora-jax':
    words = ['python', '-m', f'experiments.{words[1]}', *words[2:]]
  if words[:2] == ['python', '-m']:
    return _of_module(words[2], words[3:])
  if words[0] == 'make':
    return _of_make(words[1:])
  if words[:2] == ['pip', 'install']:
    return _of_pip(words[2:])
  return '' if words[0] in FOREIGN else f'no test knows the program {words[0]!r}'


def _of_module(module: str, arguments: Sequence[str]) -> str:
  if not re.fullmatch(r'experiments\.[a-z]\w*', module):
    return f'{module} is not a command of this project'
  before = set(flags.FLAGS)
  try:
    importlib.import_module(module)
    sys.argv = [module, *arguments]
    rest = _cli.parse(sys.argv)
    if 'config' in flags.FLAGS and flags.FLAGS['config'].value is not None:
      fields.check(flags.FLAGS['config'].value)
    return f'unexpected arguments {rest[1:]}' if rest[1:] else ''
  except Exception as error:  # Whatever a wrong line raises is what is reported.
    return f'{type(error).__name__}: {error}'
  finally:
    sys.modules.pop(module, None)
    for name in set(flags.FLAGS) - before:
      delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


def _of_make(targets: Sequence[str]) -> str:
  known = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
  missing = [target for target in targets if target not in known]
  return f'no target {missing}' if missing else ''


def _of_pip(words: Sequence[str]) -> str:
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  extras = {extra for word in words for extra in re.findall(r'\[([\w,-]+)\]', word)}
  named = {name for extra in extras for name in extra.split(',')}
  missing = named - project['optional-dependencies'].keys()
  return f'no extra {sorted(missing)}' if missing else ''


def problems(lines: Mapping[str, str]) -> dict[str, str]:
  """What is wrong, by place, of the lines that are wrong."""
  found = {place: problem(line) for place, line in lines.items()}
  return {place: said for place, said in found.items() if said}


if __name__ == '__main__':
  given = json.load(sys.stdin)
  sys.argv = sys.argv[:1]
  print(json.dumps(problems(given)))
