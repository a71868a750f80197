"""Errors of the methods: which pattern, path or option, and what there is instead."""

import re

import flax.linen as nn
import jax.numpy as jnp
import pytest

from lora_jax import join, lora
from lora_jax.methods import make
from tests.methods.toys import KEY, METHOD, Stack, X, adapted, one


# Errors: each says which pattern, path or option, and what there is instead.
@pytest.mark.parametrize(
  'options, words',
  [
    ({'targets': ('.*/query', '.*/qurey')}, ["'.*/qurey' matches no", 'layers_*/query']),
    ({'targets': 'layers_0'}, ["'layers_0' matches", 'Block', 'Dense, DenseGeneral']),
    ({'targets': '.*/(query'}, ["'.*/(query' is not a regular expression"]),
    ({'train': 'clasifier/.*'}, ["'clasifier/.*' matches no parameter", 'classifier/kernel']),
    ({'rank': {'.*/value': 2}}, ['rank has no pattern', 'layers_0/query']),
    ({'rank': {'.*/query': 2, '.*': 1, 'key': 3}}, ["'key' matches no", 'in rank']),
  ],
)
def test_errors_of_init(options, words):
  method = lora(**{'rank': 2, 'alpha': 1.0, **options})
  with pytest.raises(ValueError) as error:
    adapted('loop', method)
  assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
  'options, word',
  [
    ({'rank': 0}, 'rank=0'),
    ({'rank': {'.*': 1.5}}, 'rank=1.5'),
    ({'alpha': -1.0}, 'alpha=-1.0'),
    ({'alpha': float('nan')}, 'alpha=nan'),
    ({'bias': 'lora_only'}, "bias='lora_only'"),
    ({'init': 'gauss'}, "init='gauss'"),
    ({'dropout': 1.0}, 'dropout=1.0'),
    ({'targets': ()}, 'targets is empty'),
  ],
)
def test_errors_of_options(options, word):
  with pytest.raises(ValueError, match=re.escape(word)):
    lora(**{'rank': 2, 'alpha': 1.0, **options})


def test_errors_of_params():
  model, params, frozen, trainable, x = adapted('loop')
  with pytest.raises(ValueError, match=r'variables\["params"\]'):
    METHOD.init(KEY, model, {'params': params}, x)
  with pytest.raises(ValueError, match='layers_0/query: has factors already'):
    METHOD.init(KEY, model, join(frozen, trainable), x)
  wide = Stack('loop').init(KEY, jnp.ones((1, 9)))['params']
  with pytest.raises(ValueError, match=r'layers_0/query/kernel: \(9, 6\), expected \(6, 6\)'):
    METHOD.init(KEY, model, wide, x)


def test_a_masked_convolution_is_refused():
  model = one(nn.Conv, 2, (3,), mask=jnp.ones((3, 6, 2)))
  params = model.init(KEY, X)['params']
  with pytest.raises(ValueError, match='Conv with a mask'):
    METHOD.init(KEY, model, params, X)


def test_merge_refuses_layers_stacked_elsewhere():
  class Last(nn.Module):
    @nn.compact
    def __call__(self, x):
      experts = nn.vmap(nn.Dense, {'params': 1}, {'params': True}, in_axes=None, axis_size=3)
      return experts(4, name='query')(x).sum(0)

  params = Last().init(KEY, X)['params']
  frozen, trainable = METHOD.init(KEY, Last(), params, X)
  with pytest.raises(ValueError, match='stacked on axis 0'):
    METHOD.merge(frozen, trainable)


def test_unknown_method_and_option():
  with pytest.raises(ValueError, match="unknown method 'loar'; nearest: lora"):
    make('loar')
  with pytest.raises(ValueError, match=r"'lora' has no option \['ranks'\]; lora takes rank, alpha"):
    make('lora', ranks=3)
  with pytest.raises(ValueError, match="unknown method 'prefix_embde'; nearest: prefix_embed"):
    make('lora+prefix_embde')
