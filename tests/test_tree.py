"""Parameter trees by path: split and join are inverse, and each mistake is named."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

from lora_jax import tree


def params(dtype=np.float32):
  layer = lambda i: {'query': {'kernel': np.full((2, 3), i, dtype), 'bias': np.zeros(3, dtype)}}
  head = {'kernel': np.ones((3, 2), dtype), 'bias': np.zeros(2, dtype)}
  return {'layers_0': layer(0), 'layers_1': layer(1), 'classifier': head}


def same(found, expected):
  assert tree.paths(found) == tree.paths(expected)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_flattening_keeps_the_order_and_copies_nothing():
  leaves = tree.flatten(params())
  assert list(leaves)[:2] == ['layers_0/query/kernel', 'layers_0/query/bias']
  same(tree.unflatten(leaves), params())
  frozen = freeze(params())
  assert tree.flatten(frozen)['classifier/bias'] is frozen['classifier']['bias']


def test_split_and_join_are_inverse():
  frozen, trainable = tree.split(params(), ['classifier/.*', '.*/bias'])
  assert tree.paths(trainable) == [
    'layers_0/query/bias',
    'layers_1/query/bias',
    'classifier/kernel',
    'classifier/bias',
  ]
  assert tree.count(trainable) == 2 * 3 + 8 and tree.count(frozen) == 2 * 6
  joined = tree.flatten(tree.join(frozen, trainable))
  same(tree.unflatten({path: joined[path] for path in tree.paths(params())}), params())


@pytest.mark.parametrize(
  'trees, message',
  [
    ((params(), params()), "'layers_0/query/kernel' is in both"),
    (({'a': {'b': 1}}, {'a': {'b': {'c': 1}}}), "'a/b' is in both|'a/b' is a leaf in one tree"),
    (({'a': {'b': {'c': 1}}}, {'a': {'b': 1}}), "'a/b' is in both|a leaf in one tree"),
  ],
)
def test_trees_that_overlap_are_not_joined(trees, message):
  with pytest.raises(ValueError, match=message):
    tree.join(*trees)


def test_each_pattern_has_to_match():
  names = tree.paths(params())
  assert tree.match('.*/query/bias', names) == {'.*/query/bias': [names[1], names[3]]}
  with pytest.raises(ValueError) as error:
    tree.match(['clasifier/bias', '.*/(query', 'classifier'], names, 'leaf')
  first, second, third = str(error.value).splitlines()
  assert "'clasifier/bias' matches no leaf" in first
  assert "Did you mean 'classifier/bias'" in first
  assert 'Known: layers_[0-9]+/query/kernel, layers_[0-9]+/query/bias, classifier/kernel' in first
  pasted = re.findall(r"[^ ,']+query/bias", first)
  assert pasted and all(len(tree.match(name, names)[name]) == 2 for name in pasted)
  assert "'.*/(query' is not a regular expression" in second
  assert "'classifier' matches no leaf (a pattern matches a whole path)" in third


def test_sizes_and_dtypes():
  assert tree.nbytes(params(np.float16)) == 2 * tree.count(params())
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params())
  assert (tree.count(shapes), tree.nbytes(shapes)) == (26, 104)
  cast = tree.cast({'x': jnp.ones(2), 'n': jnp.arange(2)}, jnp.bfloat16)
  assert (cast['x'].dtype, cast['n'].dtype) == (jnp.bfloat16, jnp.int32)
