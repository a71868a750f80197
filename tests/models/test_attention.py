"""Attention within segments, by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import ops
from lora_jax.models import attention as attention_lib
from lora_jax.models import fused_attention

pytestmark = pytest.mark.usefixtures('strict_dtypes')


def normal(seed, shape, dtype=jnp.float32):
  return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 0, 0], [1, 2, 2, 2, 2, 3, 3, 3]])


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('path', ['plain', 'dropout', 'bfloat16', 'columns', 'cudnn'])
def test_attention_is_that_of_each_segment_alone(monkeypatch, path, causal):
  query, key, value = (normal(i, (2, 8, 3, 16)) for i in range(3))
  low = path in ('bfloat16', 'cudnn')
  dtype = jnp.bfloat16 if low else jnp.float32
  columns = jnp.array([[2, 4, 7], [7, 0, 3]]) if path == 'columns' else None
  given, theirs = [], jax.nn.dot_product_attention

  def without_gpu(*args, implementation, **kwargs):  # What cudnn is asked for, JAX's xla computes.
    given.append(implementation)
    with jax.numpy_dtype_promotion('standard'):  # As JAX's xla needs.
      return theirs(*args, **kwargs, implementation='xla')

  monkeypatch.setattr(jax.nn, 'dot_product_attention', without_gpu)
  call = functools.partial(
    attention_lib.attention,
    causal=causal,
    dropout=(lambda weights: weights) if path == 'dropout' else None,
  )
  asked = query if columns is None else jnp.stack([q[c] for q, c in zip(query, columns)])
  inputs = (x.astype(dtype) for x in (asked, key, value))
  platform = 'gpu' if path == 'cudnn' else 'cpu'
  with fused_attention.use(fused_attention.Target(platform, (8, 0))):
    found = jax.jit(call)(*inputs, SEGMENTS, columns=columns)
  expected = np.zeros((2, 8, 3, 16))
  for row, segments in enumerate(SEGMENTS):
    for segment in np.unique(segments):
      where = np.flatnonzero(segments == segment)
      q, k, v = (np.asarray(x[row, where]) for x in (query, key, value))
      scores = np.einsum('tnh,snh->nts', q, k) / 4
      if causal:
        scores = np.where(np.tri(len(where)), scores, -np.inf)
      weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
      expected[row, where] = np.einsum('nts,snh->tnh', weights, v)
  if columns is not None:
    expected = np.stack([row[c] for row, c in zip(expected, np.asarray(columns))])
  tolerance = 3e-2 if low else 1e-5
  np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=tolerance)
  assert given == ['cudnn'] * (path == 'cudnn')


def test_attention_dropout_drops_weights():
  query, key = normal(0, (1, 64, 2, 4)), normal(1, (1, 64, 2, 4))
  value = jnp.ones((1, 64, 2, 4))
  drop = functools.partial(ops.drop, jax.random.key(0), 0.5)
  y = attention_lib.attention(query, key, value, dropout=drop)
  assert abs(float(y.mean()) - 1) < 0.1  # Without dropout all are 1.
  assert float(y.std()) > 0.05
