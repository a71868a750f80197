"""Several methods at once."""

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
