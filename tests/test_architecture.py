"""Who may import whom, how long a file may be, and what is installed: checked on the source."""

import ast
import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ('lora_jax', 'configs', 'experiments', 'tests')
JAX = {'jax', 'jaxlib', 'flax', 'optax', 'orbax', 'chex'}
TORCH = {'torch', 'tensorflow'}
MAX_LINES = 400

# What each part of lora_jax may import of the others; `lora_jax` is __init__.py, the public names.
ARROWS = {
  'tree': {'errors'},
  'analysis_schema': set(),
  'compilation': set(),
  'errors': set(),
  'extras': {'errors'},
  'fields': {'errors', 'paper'},
  'files': set(),
  'gguf_reader': {'extras', 'provenance'},
  'host_memory': set(),
  'ops': set(),
  'paper': set(),
  'provenance': {'errors', 'files'},
  'quantization': {'errors', 'ops', 'stacking', 'tree'},
  'stacking': {'tree'},
  'methods': {'errors', 'ops', 'quantization', 'stacking', 'tree'},
  'models': {'errors', 'ops', 'stacking'},
  'pretrained': {
    'errors',
    'extras',
    'files',
    'gguf_reader',
    'models',
    'provenance',
    'quantization',
    'stacking',
    'tree',
  },
  'adapters': {
    'errors',
    'files',
    'methods',
    'models',
    'pretrained',
    'provenance',
    'quantization',
    'stacking',
    'tree',
  },
  'metrics': {'errors', 'extras'},
  'data': {'errors', 'extras', 'files', 'gguf_reader', 'metrics', 'provenance', 'result_schema'},
  'generation': set(),
  'train': {
    'adapters',
    'compilation',
    'data',
    'errors',
    'extras',
    'fields',
    'files',
    'generation',
    'methods',
    'metrics',
    'models',
    'pretrained',
    'provenance',
    'quantization',
    'result_schema',
    'stacking',
    'tree',
  },
  'sweep': {
    'compilation',
    'data',
    'extras',
    'files',
    'methods',
    'models',
    'provenance',
    'result_schema',
    'train',
    'tree',
  },
  'bench': {
    'adapters',
    'cost',
    'data',
    'extras',
    'generation',
    'methods',
    'models',
    'nnx',
    'pretrained',
    'provenance',
    'result_schema',
    'serving',
    'stacking',
    'sweep',
    'train',
    'tree',
  },
  'cost': {
    'data',
    'extras',
    'methods',
    'models',
    'paper',
    'pretrained',
    'result_schema',
    'train',
    'tree',
  },
  # Adapters are of checkpoints; data lays out texts of any length, in decoding's buckets.
  'serving': {
    'adapters',
    'data',
    'errors',
    'files',
    'generation',
    'methods',
    'models',
    'pretrained',
    'stacking',
    'tree',
  },
  'analysis': {
    'adapters',
    'errors',
    'files',
    'methods',
    'models',
    'pretrained',
    'quantization',
    'stacking',
    'train',
    'tree',
  },
  # The runs behind a table: what each costs, and what is on the disk of it.
  'reproduce': {
    'cost',
    'data',
    'errors',
    'extras',
    'models',
    'paper',
    'result_schema',
    'sweep',
    'train',
  },
  'report': {'analysis_schema', 'errors', 'extras', 'fields', 'files', 'paper', 'result_schema'},
  'result_schema': {'provenance'},
  '__main__': {'errors', 'extras', 'lora_jax'},
  'nnx': {'methods', 'quantization', 'tree'},
  'lora_jax': {'adapters', 'methods', 'nnx', 'pretrained', 'tree'},
}
WITHOUT_JAX = (
  'analysis_schema', 'data', 'fields', 'metrics', 'paper', 'report', 'result_schema'
)  # fmt: skip


def imports(path: pathlib.Path, root: pathlib.Path) -> Iterator[tuple[int, str]]:
  """(line, dotted name) of all that a file imports, at any depth and by any spelling."""
  package = path.relative_to(root).parent.parts
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'), str(path))):
    if isinstance(node, ast.Import):
      yield from ((node.lineno, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = package[: len(package) - node.level + 1] if node.level else ()
      module = '.'.join((*base, *([node.module] if node.module else [])))
      yield from ((node.lineno, f'{module}.{alias.name}') for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
      called = node.func.attr if isinstance(node.func, ast.Attribute) else _name(node.func)
      if called in ('import_module', '__import__', 'importorskip'):
        yield node.lineno, str(node.args[0].value)


def violations(root: pathlib.Path) -> list[str]:
  """Everything under `root` that breaks a rule, as `file:line: what`."""
  found = []
  for path in (file for folder in FOLDERS for file in sorted((root / folder).rglob('*.py'))):
    name = path.relative_to(root).as_posix()
    if (lines := len(path.read_text(encoding='utf-8').splitlines())) > MAX_LINES:
      found.append(f'{name}: {lines} lines, at most {MAX_LINES}')
    for part in path.relative_to(root).with_suffix('').parts:
      if re.fullmatch(r'_?(utils?|helpers?|common|misc)', part):
        found.append(f'{name}: name the file after what is in it, not {part!r}')
    importer = _part(name.removesuffix('.py').replace('/', '.'), root)
    if name.startswith('lora_jax/') and importer not in ARROWS:
      found.append(f'{name}: {importer!r} has no place in ARROWS')
      continue
    for line, imported in imports(path, root):
      if problem := _problem(name, importer, imported, root):
        found.append(f'{name}:{line}: {problem}')
  return found


def _problem(name: str, importer: str, imported: str, root: pathlib.Path) -> str | None:
  top, folder = imported.split('.')[0], name.split('/')[0]
  if top in TORCH and not re.fullmatch(r'(tests/golden/make_|experiments/peers/)\w+\.py', name):
    return f'{top} is only for tests/golden/make_*.py and experiments/peers'
  if folder in ('experiments', 'tests'):
    return None
  if folder == 'configs':
    # `import lora_jax.paper` runs lora_jax/__init__.py and so imports JAX: that is accepted.
    ours = ('configs._base', 'lora_jax.paper', 'lora_jax.errors', 'lora_jax.fields', '__future__')
    allowed = top in ('ml_collections', *sys.stdlib_module_names) or imported.startswith(ours)
    # An ablation is a task's config with some fields changed.
    allowed = allowed or (name == 'configs/_base_ablation.py' and top == 'configs')
    known = 'ml_collections, configs._base*, lora_jax.paper, .errors and .fields'
    return None if allowed else f'configs import {known}, not {imported}'
  if top in JAX and importer in WITHOUT_JAX:
    return f'{importer} imports no JAX, found {imported}'
  if top in ('configs', 'experiments', 'tests'):
    return f'lora_jax does not import {top}'
  target = _part(imported, root)
  if top == 'lora_jax' and target != importer and target not in ARROWS[importer]:
    return f'{importer} -> {target} is not an allowed arrow'
  return None


def _part(dotted: str, root: pathlib.Path) -> str:
  """The part of lora_jax that a dotted name lies in: 'methods' of 'lora_jax.methods.base.bind'."""
  names = dotted.split('.')
  if names[0] != 'lora_jax' or names[1:] in ([], ['__init__']):
    return names[0]
  folder = root / 'lora_jax' / names[1]
  return names[1] if folder.is_dir() or folder.with_suffix('.py').exists() else 'lora_jax'


def _name(node: ast.AST) -> str:
  return node.id if isinstance(node, ast.Name) else ''


def test_the_tree_keeps_its_rules():
  assert (ROOT / 'lora_jax/tree.py').exists()
  assert violations(ROOT) == []


def test_every_allowed_arrow_is_used():
  used: dict[str, set[str]] = {part: set() for part in ARROWS}
  for path in sorted((ROOT / 'lora_jax').rglob('*.py')):
    name = path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')
    importer = _part(name, ROOT)
    used[importer] |= {_part(imported, ROOT) for _, imported in imports(path, ROOT)}
  unused = {part: allowed - used[part] for part, allowed in ARROWS.items() if allowed - used[part]}
  assert unused == {}


def test_requirements_hold_neither_torch_nor_tensorflow():
  lines = (ROOT / 'requirements.txt').read_text().splitlines()
  pins = [line for line in lines if line and not line.startswith('#')]
  unpinned = [pin for pin in pins if not re.fullmatch(r'[A-Za-z0-9._-]+==[^\s;]+', pin)]
  names = {pin.split('==')[0].lower().replace('_', '-') for pin in pins}
  assert not unpinned
  banned = [n for n in names if re.match(r'(torch|tensorflow|nvidia|triton)', n)]
  assert set(banned) <= {'tensorflow-datasets', 'tensorflow-metadata'}
  assert {'jax', 'flax', 'pytest', 'pytest-xdist', 'ruff'} <= names


GOOD = {
  'lora_jax/__init__.py': 'from lora_jax.methods import lora\nfrom lora_jax.tree import join\n',
  'lora_jax/tree.py': 'import jax\n',
  'lora_jax/methods/__init__.py': '',
  'lora_jax/methods/base.py': 'import flax.linen as nn\nfrom lora_jax import tree\n',
  'lora_jax/methods/lora.py': 'from lora_jax.methods.base import Method\nfrom . import base\n',
  'lora_jax/models/gpt2.py': 'import jax\n',
  'lora_jax/data/glue.py': 'import tensorflow_datasets as tfds\nfrom lora_jax import metrics\n',
  'lora_jax/metrics/__init__.py': 'import numpy\n',
  'lora_jax/train/loop.py': 'from lora_jax import data, tree\nfrom lora_jax.models import gpt2\n',
  'lora_jax/paper/printed.py': 'import re\n',
  'configs/_base.py': 'import itertools\nfrom ml_collections import config_dict\n',
  'configs/glue.py': 'from configs import _base\nfrom lora_jax.paper import printed\n',
  'configs/_base_ablation.py': 'from configs import _base, glue\n',
  'experiments/train.py': 'from lora_jax.train import loop\nfrom configs import glue\n',
  'tests/golden/make_models.py': 'import torch\n',
  'experiments/peers/peft_step.py': 'import torch\n',
}

BAD = {
  'a model imports a method': ('lora_jax/models/gpt2.py', 'from lora_jax.methods import base'),
  'a method imports a model': ('lora_jax/methods/full.py', 'import lora_jax.models.gpt2'),
  'an upward arrow': ('lora_jax/models/gpt2.py', 'from lora_jax import train'),
  'tree imports ours': ('lora_jax/tree.py', 'from lora_jax.methods.base import Method'),
  'the package as a whole': ('lora_jax/train/loop.py', 'from lora_jax import join'),
  'a relative import': ('lora_jax/models/gpt2.py', 'from ..methods.base import Method'),
  'inside a function': ('lora_jax/methods/full.py', 'def f():\n  from lora_jax import data'),
  'by a call': ('lora_jax/methods/full.py', "importlib.import_module('lora_jax.data')"),
  'a main': ('lora_jax/train/loop.py', 'import experiments.train'),
  'JAX in data': ('lora_jax/data/glue.py', 'import numpy, jax.numpy as jnp'),
  'flax in metrics': ('lora_jax/metrics/glue.py', 'from flax import linen'),
  'JAX in report': ('lora_jax/report/tables.py', 'import orbax.checkpoint'),
  'report reads only JSON': ('lora_jax/report/tables.py', 'from lora_jax.metrics import glue'),
  'a config imports jax': ('configs/glue.py', 'import jax'),
  'a config imports us': ('configs/glue.py', 'from lora_jax.data import glue'),
  'a config imports another': ('configs/rank.py', 'from configs import glue'),
  'torch': ('tests/models/test_gpt2.py', 'import torch.nn'),
  'torch by importorskip': ('tests/test_x.py', "pytest.importorskip('torch')"),
  'tensorflow': ('lora_jax/data/sources.py', 'from tensorflow import io'),
  'torch beside the goldens': ('tests/golden/test_make.py', 'import torch'),
  'a long file': ('lora_jax/models/gpt2.py', 'x = 1\n' * (MAX_LINES + 1)),
  'utils': ('lora_jax/train/utils.py', ''),
  'helpers': ('experiments/helpers/text.py', ''),
  'a part nobody knows': ('lora_jax/quantize.py', ''),
}


@pytest.fixture
def planted(tmp_path):
  for name, text in GOOD.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  return tmp_path


def test_allowed_imports_pass(planted):
  assert violations(planted) == []


@pytest.mark.parametrize('case', BAD)
def test_each_broken_rule_is_found(planted, case):
  name, text = BAD[case]
  (planted / name).parent.mkdir(parents=True, exist_ok=True)
  (planted / name).write_text(text)
  found = violations(planted)
  assert len(found) == 1, found
  assert found[0].startswith(name)
