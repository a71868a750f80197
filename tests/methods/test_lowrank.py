"""The factors on each kind of layer: the update, its merge, and its products in low precision."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from lora_jax import bind, join, tree
from lora_jax.methods import lowrank, prefix
from lora_jax.methods.lowrank import layer_of
from tests.methods.toys import (
  CASES,
  IDS,
  IMAGE,
  KEY,
  METHOD,
  X,
  adapted,
  disturbed,
  low_products,
  one,
)


@pytest.mark.parametrize('name', CASES)
def test_merge_equals_apply(name):
  model, params, frozen, trainable, x = adapted(name)
  trainable = disturbed(trainable)
  unmerged = bind(model.apply, METHOD)(frozen, trainable, x)
  merged = METHOD.merge(frozen, trainable)
  assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, params)
  np.testing.assert_allclose(model.apply({'params': merged}, x), unmerged, atol=1e-5, rtol=1e-5)
  changed = np.abs(unmerged - model.apply({'params': params}, x)).max()
  assert changed > 1e-2, 'the factors have no effect, so the comparison shows nothing'


def test_dense_update_is_the_papers_equation():
  """h = W x + b + (alpha / r) x a b (section 4.1), written out."""
  model = one(nn.Dense, 4)
  params = model.init(KEY, X)['params']
  frozen, trainable = METHOD.init(KEY, model, params, X)
  trainable = disturbed(trainable)
  weights = join(frozen, trainable)['query']
  expected = X @ weights['kernel'] + weights['bias'][None, None]
  expected += 3.0 / 2 * (X @ weights['lora_a'] @ weights['lora_b'])
  actual = bind(model.apply, METHOD)(frozen, trainable, X)
  np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_layers_stacked_elsewhere_are_refused():
  class Last(nn.Module):
    @nn.compact
    def __call__(self, x):
      experts = nn.vmap(nn.Dense, {'params': 1}, {'params': True}, in_axes=None, axis_size=3)
      return experts(4, name='query')(x).sum(0)

  params = Last().init(KEY, X)['params']
  with pytest.raises(ValueError, match=r'query/kernel: .* stacked on axis 0'):
    METHOD.init(KEY, Last(), params, X)
  factors = {'lora_a': jnp.ones((6, 3, 2)), 'lora_b': jnp.ones((2, 3, 4))}
  with pytest.raises(ValueError, match='stacked on axis 0'):
    METHOD.merge(params, {'query': factors})


@pytest.mark.parametrize(
  'a, b, weight, fit',
  [
    ((6, 2), (2, 4), (6, 4), True),
    ((6, 2), (3, 4), (6, 4), False),  # Of two ranks.
    ((6, 2), (2, 1), (6, 4), False),
    ((3, 6, 2), (3, 2, 4), (3, 6, 4), True),
    ((3, 6, 2), (1, 2, 4), (3, 6, 4), False),
    ((1, 6, 1, 2), (5, 1, 4, 2), (5, 6, 4), True),  # Of an einsum.
    ((1, 6, 1, 2), (5, 1, 4, 3), (5, 6, 4), False),
    ((1, 6, 1, 2), (5, 2, 4, 2), (5, 6, 4), False),
  ],
)
def test_factors_fit_a_weight(a, b, weight, fit):
  assert lowrank.fits(a, b, weight) == fit


def test_bfloat16_compute_keeps_float32_factors():
  model = one(nn.Dense, 4, dtype=jnp.bfloat16)
  params = tree.cast(model.init(KEY, X)['params'], jnp.bfloat16)
  frozen, trainable = METHOD.init(KEY, model, params, X)
  assert {leaf.dtype for leaf in jax.tree.leaves(trainable)} == {jnp.dtype('float32')}
  assert bind(model.apply, METHOD)(frozen, disturbed(trainable), X).dtype == jnp.bfloat16
  assert METHOD.merge(frozen, disturbed(trainable))['query']['kernel'].dtype == jnp.bfloat16


def test_merge_in_bfloat16_rounds_once():
  model = one(nn.Dense, 64)
  params = tree.cast(model.init(KEY, X)['params'], jnp.bfloat16)
  frozen, trainable = METHOD.init(KEY, model, params, X)
  trainable = disturbed(trainable)
  weights = join(frozen, trainable)['query']
  exact = np.float64(weights['kernel']) + 1.5 * np.float64(weights['lora_a']) @ np.float64(
    weights['lora_b']
  )
  merged = METHOD.merge(frozen, trainable)['query']['kernel']
  twice = weights['kernel'] + (1.5 * weights['lora_a'] @ weights['lora_b']).astype(jnp.bfloat16)
  error = lambda x: np.abs(np.float64(x) - exact).max()
  assert error(merged) < error(twice)


LOW = {
  'dense': (functools.partial(nn.Dense, 4), X),
  'general': (functools.partial(nn.DenseGeneral, (2, 3), axis=(1, -1)), X),
  'einsum': (functools.partial(nn.Einsum, (2, 6, 3), 'BTD,NDH->BTNH'), X),
  'conv': (functools.partial(nn.Conv, 6, (3, 3)), IMAGE),
  'conv-groups': (functools.partial(nn.Conv, 6, (3, 3), feature_group_count=2), IMAGE),
  'embed': (functools.partial(nn.Embed, 11, 6), IDS),
}


@pytest.mark.parametrize('name', LOW)
def test_the_factors_products_accumulate_in_float32(name):
  layer, x = LOW[name]
  model = one(layer, dtype=jnp.bfloat16)
  params = model.init(KEY, x)['params']
  frozen, trainable = METHOD.init(KEY, model, params, x)
  apply = bind(model.apply, METHOD)
  # The layer's own product is Flax's and stays as it is; the factors add none of its kind.
  own = low_products(lambda params: model.apply({'params': params}, x), params)
  assert low_products(lambda trainable: apply(frozen, trainable, x), trainable) == own
  loss = lambda trainable: apply(frozen, trainable, x).astype(jnp.float32).sum()
  # The backward convolutions are JAX's own, see `ops.conv_general_dilated`.
  backward = low_products(jax.grad(loss), trainable)
  assert backward.count('dot_general') == own.count('dot_general')


def test_logits_of_a_tied_embedding_are_not_rounded_between():
  embed = nn.Embed(11, 64, dtype=jnp.bfloat16)
  a, b = jnp.ones((11, 1)), jnp.ones((1, 64)) + 2**-7
  update = layer_of(embed).update(embed, 'attend', a, b, jnp.ones((2, 64)))
  assert update.dtype == jnp.float32


def test_a_wrong_shape_is_refused_under_the_tests_hook():
  with pytest.raises(jaxtyping.TypeCheckError, match='x'):
    prefix._replace(nn.Dense(2), jnp.zeros((2, 3)), jnp.zeros((2, 3), jnp.int32))
