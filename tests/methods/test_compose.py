"""Several methods at once."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from lora_jax import methods
from tests.methods.laws import TOKENS, batch, build, move


def test_in_any_order_a_prefix_is_around_factors_of_the_embedding():
  model, params = build('gpt2')
  lora = methods.lora(rank=2, alpha=4.0, targets='.*/word')
  parts = [lora, methods.prefix_embed(**TOKENS)]
  inputs = batch('prefix')
  _, trainable = methods.compose(*parts).init(jax.random.key(1), model, params, inputs['input_ids'])
  logits = [
    methods.bind(model.apply, methods.compose(*order))(params, move(trainable), **inputs)
    for order in (parts, parts[::-1])
  ]
  assert np.isfinite(logits).all()
  np.testing.assert_array_equal(*logits)


def test_two_of_a_kind_are_refused_that_would_apply_each_other():
  model, params = build('gpt2')
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  query, value = (
    methods.lora(rank=2, alpha=4.0, targets=f'.*/{name}') for name in ('query', 'value')
  )
  adapters = methods.adapter_h(bottleneck=2), methods.adapter_p(bottleneck=3)
  for parts, leaves in ((query, value), 'lora_a.*lora_b'), (adapters, 'bias.*kernel'):
    with pytest.raises(ValueError, match=f'of one kind: both add leaves named .*{leaves}'):
      methods.compose(*parts).init(jax.random.key(1), model, params, tokens)
  methods.compose(query, adapters[0]).init(jax.random.key(1), model, params, tokens)


def test_dora_comes_before_other_methods_of_its_modules():
  """It scales the weight with its own update; merged after another it would scale that, too."""
  model, x = nn.Dense(6), jax.random.normal(jax.random.key(0), (4, 8))
  params = model.init(jax.random.key(1), x)['params']
  dora, vera = (
    methods.lora(rank=2, alpha=4, targets='', dora=True),
    methods.vera(rank=3, targets=''),
  )
  both = methods.compose(dora, vera)
  frozen, trainable = both.init(jax.random.key(2), model, params, x)
  trainable = move(trainable)
  found = methods.bind(model, both)(frozen, trainable, x)
  merged = model.apply({'params': both.merge(frozen, trainable)}, x)
  np.testing.assert_allclose(found, merged, rtol=1e-5, atol=1e-5)
  with pytest.raises(ValueError, match=r'lora_m: DoRA .* comes before'):
    methods.compose(vera, dora).init(jax.random.key(2), model, params, x)
