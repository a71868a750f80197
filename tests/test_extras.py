"""What the core imports, what each extra brings, and the error where a package is missing."""

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_jax import extras
from tests import house, test_architecture, without

PROJECT = tomllib.loads((house.ROOT / 'pyproject.toml').read_text())['project']
# Extras without packages of their own that this project imports.
DEVICES = {'cuda', 'tpu', 'tpu-plan'}
CALLS = ('require', 'extras.require', 'extras.missing')


def normal(name: str) -> str:
  return re.sub(r'[-_.]+', '-', name.lower())


def distributions(lines: list[str]) -> set[str]:
  """The packages that lines of pyproject.toml name, without this one."""
  found = (normal(re.split(r'[\[<>=!~; ]', line)[0]) for line in lines)
  return {name for name in found if name != 'lora-jax'}


def imported_names() -> dict[str, set[str]]:
  """By package the names that it is imported by; a package that is not installed has its own."""
  found: dict[str, set[str]] = {}
  for name, packages in importlib.metadata.packages_distributions().items():
    for package in packages:
      found.setdefault(normal(package), set()).add(name)
  return found


def required(path: Path) -> set[str]:
  """The packages that a file, or a package that it lies in, requires, or names where missing."""
  folders = [folder / '__init__.py' for folder in path.parents if house.PACKAGE in folder.parents]
  found = set()
  for file in {path, *folders}:
    for node in ast.walk(house.parse(file)):
      if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
        found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
  return found


def imported(node: ast.AST) -> Iterator[str]:
  """The packages that statements import, except for a type checker."""
  if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
    return
  if isinstance(node, ast.Import):
    yield from (alias.name.split('.')[0] for alias in node.names)
  elif isinstance(node, ast.ImportFrom):
    yield str(node.module).split('.')[0]
  for child in ast.iter_child_nodes(node):
    yield from imported(child)


def core() -> list[str]:
  """The modules that neither require a package nor import a part that does."""
  requiring = {path.parent.name for path in house.sources() if path.name == '__init__.py'
               and required(path)}  # fmt: skip
  arrows = test_architecture.ARROWS
  reached = {part: house._reachable(arrows, part) | {part} for part in arrows}
  parts = {part for part, found in reached.items() if not found & requiring}
  return [name for path in house.sources()
          if (name := house.dotted(path)).partition('.')[2].partition('.')[0] in parts]  # fmt: skip


def test_the_core_has_nine_dependencies_and_all_is_the_union_of_the_extras():
  assert len(PROJECT['dependencies']) <= 9
  every = set(PROJECT['optional-dependencies']) - DEVICES - {'all', 'test'}
  (line,) = PROJECT['optional-dependencies']['all']
  assert set(re.findall(r'[\w-]+', line.partition('[')[2])) == every


def test_the_table_of_extras_is_the_one_of_pyproject():
  names = imported_names()
  for extra in set(PROJECT['optional-dependencies']) - DEVICES - {'all', 'test'}:
    brought = {name for name, by in extras.EXTRAS.items() if by == extra}
    declared = distributions(PROJECT['optional-dependencies'][extra])
    assert {package for package in declared if not names.get(package, {package}) & brought} == set()
    assert len(brought) == len(declared)


def test_every_module_requires_what_an_extra_brings_and_it_imports():
  names = imported_names()
  packages = distributions(PROJECT['dependencies'])
  free = {'lora_jax', *sys.stdlib_module_names}.union(*(names[package] for package in packages))
  missing = {}
  for path in house.sources():
    if found := set(imported(house.parse(path))) - free - required(path):
      missing[house.dotted(path)] = found
  # A script in a process of its own, which lora_jax.data.chat starts after it has required that.
  assert missing == {'lora_jax.data.chat_renderer': {'jinja2'}}


def test_what_is_declared_is_imported():
  names = imported_names()
  used = {name for path in house.sources() for name in imported(house.parse(path))}
  core_only = {p for p in distributions(PROJECT['dependencies']) if not names[p] & used}
  assert core_only == set()
  # TFDS and fsspec load these by themselves.
  assert set(extras.EXTRAS) - used <= {'array_record', 'gcsfs'}


CODE = (
  without.PACKAGES
  + """for name in sys.argv[2].split(','):
  importlib.import_module(name)
import flax.linen as nn, jax, jax.numpy as jnp, lora_jax
model, x = nn.Sequential([nn.Dense(3)]), jnp.ones((2, 4))
params = model.init(jax.random.key(0), x)['params']
method = lora_jax.lora(rank=2, alpha=2, targets='layers_0')
print(lora_jax.summarize(method, *method.init(jax.random.key(1), model, params, x)))
"""
)


def test_the_core_works_without_the_extras():
  modules = core()
  assert {'lora_jax.methods.lora', 'lora_jax.models.gpt2', 'lora_jax.pretrained.huggingface',
          'lora_jax.adapters.peft', 'lora_jax.generation.decode'} <= set(modules)  # fmt: skip
  assert 'lora_jax.train.loop' not in modules and 'lora_jax.analysis.single' not in modules
  command = [sys.executable, '-c', CODE, ','.join(extras.EXTRAS), ','.join(modules)]
  done = subprocess.run(command, cwd=house.ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert 'trained' in done.stdout


def test_a_missing_package_names_its_extra(monkeypatch):
  find = importlib.util.find_spec
  lost = ('rapidfuzz', 'matplotlib')
  monkeypatch.setattr(importlib.util, 'find_spec', lambda x: None if x in lost else find(x))
  extras.require.cache_clear()
  extras.require('tqdm')
  with pytest.raises(
    extras.MissingExtra, match=r"^rapidfuzz is not .*: pip install 'lora_jax\[metrics\]'$"
  ):
    extras.require('rapidfuzz', 'sacrebleu')
  with pytest.raises(extras.MissingExtra, match=r'rapidfuzz, matplotlib are .*\[metrics,report\]'):
    extras.require(*lost)
  extras.require.cache_clear()
