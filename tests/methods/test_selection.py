"""BitFit and the last blocks: which of the model's own leaves are trained."""

import re

import numpy as np
import pytest

from lora_jax import bitfit, tree
from lora_jax.methods import top_layers
from tests.methods.laws import build
from tests.methods.toys import KEY, X


def parts(method, family='roberta', **build_options):
  """The paths that a method freezes and those that it trains."""
  model, params = build(family, **build_options)
  return [tree.paths(part) for part in method.init(KEY, model, params, X)], params


def test_bitfit_trains_every_bias_and_nothing_else():
  (frozen, trained), params = parts(bitfit())
  assert trained and all(path.rpartition('/')[2] == 'bias' for path in trained)
  assert not [path for path in frozen if path.endswith('bias')]
  assert any('norm' in path for path in trained), 'those of the LayerNorms are among them'
  assert sorted([*frozen, *trained]) == sorted(tree.paths(params))


def test_bitfit_trains_further_leaves_by_their_patterns():
  (_, alone), _ = parts(bitfit())
  (_, trained), _ = parts(bitfit(train='classifier/.*'))
  more = set(trained) - set(alone)
  assert more and all(re.fullmatch('classifier/.*kernel', path) for path in more)


@pytest.mark.parametrize('layers, expected', [(1, {'1'}), (2, {'0', '1'})])
def test_the_last_blocks_are_trained_whole(layers, expected):
  (frozen, trained), _ = parts(top_layers(layers=layers), 'gpt2')
  number = lambda paths: {m[1] for path in paths if (m := re.search(r'layers_(\d)/', path))}
  assert number(trained) == expected and number(frozen) == {'0', '1'} - expected
  assert all('layers_' in path for path in trained)


def test_merging_puts_the_trained_leaves_back():
  model, params = build('gpt2')
  method = top_layers(layers=1)
  frozen, trainable = method.init(KEY, model, params, X)
  merged = tree.flatten(method.merge(frozen, trainable))
  for path, leaf in tree.flatten(params).items():
    np.testing.assert_array_equal(merged.pop(path), leaf)
  assert not merged


def test_what_cannot_be_selected_is_refused():
  with pytest.raises(ValueError, match='layers=0: expected a number of blocks'):
    top_layers(layers=0)
  with pytest.raises(ValueError, match='layers=3, but the model has 2'):
    parts(top_layers(layers=3), 'gpt2')
  with pytest.raises(ValueError, match=r'no numbered blocks .*scan=False'):
    parts(top_layers(layers=1), 'gpt2', scan=True)
