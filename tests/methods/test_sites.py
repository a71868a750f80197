"""Which modules LoRA finds, and what the errors about the others say."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import bind, join, lora, tree
from tests.methods.toys import KEY, METHOD, Stack, X, adapted, disturbed, one


# Errors: each says which pattern, path or option, and what there is instead.
@pytest.mark.parametrize(
  'options, words',
  [
    ({'targets': ('.*/query', '.*/qurey')}, ["'.*/qurey' matches no", 'layers_[0-9]+/query']),
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


def test_rank_and_alpha_by_pattern():
  method = lora(rank={'.*_0/query': 4, '.*': 1}, alpha={'.*/query': 8.0, '.*/value': 2.0})
  model, _, frozen, trainable, x = adapted('loop', method)
  ranks = {
    path: leaf.shape[-1] for path, leaf in tree.flatten(trainable).items() if 'lora_a' in path
  }
  assert ranks.pop('layers_0/query/lora_a') == 4
  assert set(ranks.values()) == {1}
  trainable = disturbed(trainable)
  unmerged = bind(model.apply, method)(frozen, trainable, x)
  merged = method.merge(frozen, trainable)
  np.testing.assert_allclose(model.apply({'params': merged}, x), unmerged, atol=1e-5, rtol=1e-5)
  query, base = merged['layers_0']['query']['kernel'], frozen['layers_0']['query']['kernel']
  factors = trainable['layers_0']['query']
  np.testing.assert_allclose(
    query - base, 8.0 / 4 * factors['lora_a'] @ factors['lora_b'], atol=1e-6
  )
