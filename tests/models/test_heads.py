"""Classification heads: their paths, the order of their parts, and float32 whatever comes in."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import ops, tree
from lora_jax.models import heads


class Head(nn.Module):
  """A model that is nothing but its head; dropout doubles, so that it is seen where it is."""

  family: str

  @nn.compact
  def __call__(self, x, dropout=lambda x: x):
    return heads.HEADS[self.family](x, 3, std=0.5, dropout=dropout)


X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)), jnp.float32)
ACTIVATIONS = {'bert': np.tanh, 'roberta': np.tanh, 'deberta-v2': ops.ACTIVATIONS['gelu']}


@pytest.mark.parametrize('family', heads.HEADS)
def test_a_head_is_two_products_with_its_familys_function_between(family):
  params = tree.flatten(Head(family).init(jax.random.key(0), X)['params'])
  first, second = (
    ('classifier/dense', 'classifier/output') if family == 'roberta' else ('pooler', 'classifier')
  )
  kernels = {f'{name}/{leaf}' for name in (first, second) for leaf in ('kernel', 'bias')}
  assert set(params) == kernels
  tree.match(heads.PATHS[family], list(params), 'leaf')
  bias = {first: 0.3, second: -0.2}
  params |= {f'{name}/bias': jnp.full_like(params[f'{name}/bias'], b) for name, b in bias.items()}
  apply = lambda x, dropout: Head(family).apply({'params': tree.unflatten(params)}, x, dropout)
  x = 2 * X if family == 'roberta' else X  # RoBERTa's drops its input as well.
  middle = 2 * ACTIVATIONS[family](x @ params[f'{first}/kernel'] + 0.3)
  expected = middle @ params[f'{second}/kernel'] - 0.2
  np.testing.assert_allclose(apply(X, lambda x: 2 * x), expected, atol=1e-5)
  low = apply(X.astype(jnp.bfloat16), lambda x: x)
  assert low.dtype == jnp.float32
  np.testing.assert_array_equal(low, apply(X.astype(jnp.bfloat16).astype(jnp.float32), lambda x: x))
