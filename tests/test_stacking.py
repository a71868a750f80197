"""Layers' names: paths, trees and patterns there and back; and no other module parses them."""

import ast
import pathlib
import re

import numpy as np
import pytest

from lora_jax import stacking, tree

PACKAGE = pathlib.Path(stacking.__file__).parent
# A layer's name as code takes it apart or puts it together: `layers_0`, `layers_\d`, `layers/`,
# `layers(_\d+)?`, or an f-string with a number behind `layers_`.
PARSED = re.compile(r'(?<![A-Za-z_])layers(_(\d|\\d|[(*\[]|$)|/|\()')


def looped(num_layers=3):
  layer = lambda i: {'query': {'kernel': np.full((2, 2), i, np.float32)}}
  layers = {stacking.looped_name(i): layer(i) for i in range(num_layers)}
  return {'embeddings': {'word': np.ones(3)}, 'encoder': layers}


PATHS = [  # In the looped model, and its layer, the path in it, in general, and in the scanned one.
  ('encoder/layers_3/mlp/up', 3, 'mlp/up', 'encoder/layers_*/mlp/up', 'encoder/layers/mlp/up'),
  ('layers_12/x', 12, 'x', 'layers_*/x', 'layers/x'),
  ('encoder/layers_0', 0, '', 'encoder/layers_*', 'encoder/layers'),
]
OTHER = ['pooler/kernel', 'my_layers_3/x', 'layers_x/kernel', 'layers_3b/x', 'a/num_layers/x']


@pytest.mark.parametrize('path, index, inside, general, scanned', PATHS)
def test_paths_in_layers(path, index, inside, general, scanned):
  assert stacking.layer_index(path) == index
  assert stacking.path_in_layer(path) == inside
  assert stacking.generalize(path) == general
  assert stacking.scanned_path(path) == scanned
  assert stacking.looped_path(scanned, index) == path
  assert stacking.looped_paths(scanned, 20)[index] == (path, index)
  assert stacking.is_scanned_path(scanned) and not stacking.is_scanned_path(path)


def test_the_pattern_of_layers_matches_them_and_nothing_inside():
  matched = ['encoder/layers_3', 'layers_12', 'encoder/layers', 'layers']
  others = ['encoder/layers_3/mlp', 'my_layers', 'layers_x', 'encoder']
  assert [p for p in matched + others if re.fullmatch(stacking.LAYER, p)] == matched


@pytest.mark.parametrize('path', OTHER)
def test_paths_outside_of_layers(path):
  assert stacking.layer_index(path) is None
  for same in (stacking.path_in_layer, stacking.generalize, stacking.scanned_path):
    assert same(path) == path
  assert stacking.looped_path(path, 2) == path
  assert stacking.looped_paths(path, 4) == [(path, None)]


def test_patterns_of_leaves():
  paths = [
    'encoder/layers_1/x',
    'layers_1/y/z',
    'encoder/layers_11/x',
    'encoder/layers/x',
    'head/x',
  ]
  match = lambda pattern: [path for path in paths if re.fullmatch(pattern, path)]
  assert match(stacking.leaf_pattern(1)) == paths[:2]
  assert match(stacking.leaf_pattern()) == paths[:3]


def test_stacking_and_unstacking_are_inverse():
  stacked = stacking.stack(looped(), 3)
  assert stacking.is_scanned(stacked) and not stacking.is_scanned(looped())
  assert tree.paths(stacked) == ['embeddings/word', 'encoder/layers/query/kernel']
  kernels = stacked['encoder'][stacking.SCANNED]['query']['kernel']
  assert kernels[:, 0, 0].tolist() == [0, 1, 2]
  found, expected = tree.flatten(stacking.unstack(stacked)), tree.flatten(looped())
  assert list(found) == list(expected)
  for path, leaf in expected.items():
    np.testing.assert_array_equal(found[path], leaf)


def test_layers_that_differ_cannot_be_stacked():
  with pytest.raises(ValueError, match=r'all 4 layers.*scan=False(?s:.*)query/kernel: layers 0'):
    stacking.stack(looped(), 4)
  other = looped()
  other['encoder']['layers_1']['query']['kernel'] = np.zeros((2, 3))
  with pytest.raises(ValueError, match=r'0 \(2, 2\), 1 \(2, 3\), 2 \(2, 2\)'):
    stacking.stack(other, 3)


def test_patterns_are_rewritten_there_and_back():
  options = {
    'name': 'lora',
    'targets': ('encoder/layers/mlp/up', '.*/query'),
    'alpha': {'.*layers/.*': 2.0, '.*': 1.0},
    'rank': 8,
    'dropout': 'layers/',  # Not an option that holds patterns.
  }
  found = stacking.looped_patterns(options)
  assert found['targets'] == (r'encoder/layers_\d+/mlp/up', '.*/query')
  assert found['alpha'] == {r'.*layers_\d+/.*': 2.0, '.*': 1.0}
  assert found['dropout'] == 'layers/'
  assert stacking.scanned_patterns(found) == options
  assert stacking.looped_patterns(found) == found


def parsed_names(text):
  """(line, constant) of the strings in source code that take a layer's name apart."""
  module = ast.parse(text)
  documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
  docstrings = {
    id(node.body[0].value)
    for node in ast.walk(module)
    if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
  }
  for node in ast.walk(module):
    text = node.value if isinstance(node, ast.Constant) and id(node) not in docstrings else None
    if isinstance(text, str) and PARSED.search(text):
      yield node.lineno, text


def test_no_other_module_parses_the_names_of_layers():
  found = [
    f'{path.relative_to(PACKAGE)}:{line}: {value!r}'
    for path in sorted(PACKAGE.rglob('*.py'))
    if path.name != 'stacking.py'
    for line, value in parsed_names(path.read_text(encoding='utf-8'))
  ]
  assert found == []


PLANTED = [
  "re.search(r'layers_(\\d+)/', path)",
  "found = path.replace('/layers/', f'/{name}/')",
  "name = f'layers_{i}'",
  "BLOCK = r'(.*/)?layers(_\\d+)?'",
  "path = 'encoder/layers_0/query'",
]
ALLOWED = [
  "'num_layers'",
  "'top_layers: layers=3'",
  "'layers_to_transform'",
  "'''layers_0/x'''",
  "''",
]


@pytest.mark.parametrize('line', PLANTED)
def test_a_planted_violation_is_found(line):
  assert [number for number, _ in parsed_names(f'"""On layers_0/x."""\nimport re\n{line}\n')] == [3]


@pytest.mark.parametrize('line', ALLOWED)
def test_other_names_with_layers_pass(line):
  assert list(parsed_names(f'{line}\n')) == []
