"""Products, dropout and attention, each by itself."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params
from scipy import special

from lora_jax import ops
from lora_jax.models import attention as attention_lib
from lora_jax.models import layers

pytestmark = pytest.mark.usefixtures('strict_dtypes')

# Shapes of the operands and dimension numbers: ((contracted), (batch)).
PRODUCTS = {
  'dense': ((2, 5, 4), (4, 3), (((2,), (0,)), ((), ()))),
  'attend': ((5, 4), (7, 4), (((1,), (1,)), ((), ()))),
  'scores': ((2, 5, 3, 4), (2, 6, 3, 4), (((3,), (3,)), ((0, 2), (0, 2)))),
  'weighted': ((2, 3, 5, 6), (2, 6, 3, 4), (((3,), (1,)), ((0, 1), (0, 2)))),
  'several axes, none in order': ((4, 2, 3, 5), (6, 5, 4, 2), (((3, 0), (1, 2)), ((1,), (3,)))),
}


def normal(seed, shape, dtype=jnp.float32):
  return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def dots(jaxpr):
  """All dot_general equations of a jaxpr, inner ones too."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      yield equation
    for inner in jaxprs_in_params(equation.params):
      yield from dots(inner)


@pytest.mark.parametrize(
  'name, transform',
  [(name, 'plain') for name in PRODUCTS]
  + [(name, how) for name in ('dense', 'weighted') for how in ('vmap', 'remat in scan')],
)
def test_low_precision_products_and_gradients_are_those_of_float32(name, transform):
  lhs_shape, rhs_shape, dims = PRODUCTS[name]
  # Small whole numbers: exact in bfloat16, so every order of summation gives the same result.
  rng = np.random.default_rng(0)
  shapes = (lhs_shape, rhs_shape)
  out = jax.eval_shape(product(dims), *(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
  args = [rng.integers(-2, 3, (3, *s)).astype(np.float32) for s in (*shapes, out.shape)]

  def loss(lhs, rhs, weight):
    return jnp.sum((product(dims)(lhs, rhs) * weight).astype(jnp.float32))

  def value_and_grads(dtype):
    values = [jnp.asarray(x, dtype) for x in args]
    if transform == 'plain':
      values = [x[0] for x in values]
      return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(*values)
    if transform == 'vmap':
      return jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1))))(*values)
    one = jax.value_and_grad(jax.checkpoint(loss), argnums=(0, 1))
    return jax.jit(lambda *values: lax.map(lambda x: one(*x), values))(*values)

  (low_value, low), (value, full) = value_and_grads(jnp.bfloat16), value_and_grads(jnp.float32)
  np.testing.assert_allclose(low_value, value)
  for found, expected in zip(low, full):
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found.astype(jnp.float32), expected)


def product(dims):
  return lambda lhs, rhs: ops.dot_general(lhs, rhs, dims)


def test_backward_products_take_low_operands_and_accumulate_in_float32():
  x, kernel = normal(0, (4, 8), jnp.bfloat16), normal(1, (8, 6), jnp.bfloat16)
  dims = (((1,), (0,)), ((), ()))
  loss = lambda x, kernel: jnp.sum(product(dims)(x, kernel).astype(jnp.float32) ** 2)
  found = list(dots(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(x, kernel).jaxpr))
  assert len(found) == 3
  for equation in found:
    assert {str(v.aval.dtype) for v in equation.invars} == {'bfloat16'}
    assert equation.outvars[0].aval.dtype == jnp.float32


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_gradient_of_a_bias_alone_costs_no_kernel_gradient(dtype, scan):
  width, depth = 64, 3
  kernels = normal(0, (depth, width, width), dtype)
  biases = jnp.zeros((depth, width), dtype)
  x = normal(1, (128, width), dtype)
  dims = (((1,), (0,)), ((), ()))

  def loss(biases, kernels):
    step = lambda x, layer: (product(dims)(x, layer[0]) + layer[1][None], None)
    if scan:
      y, _ = lax.scan(step, x, (kernels, biases))
    else:
      y = x
      for layer in zip(kernels, biases):
        y, _ = step(y, layer)
    return jnp.sum(y.astype(jnp.float32) ** 2)

  def flops(argnums):
    compiled = jax.jit(jax.grad(loss, argnums)).lower(biases, kernels).compile()
    return compiled.cost_analysis()['flops'] / (2 * 128 * width * width)

  # Products a layer: 1 forward, 1 for the input; the kernel's would be the third. XLA counts the
  # body of a loop once.
  counted = 1 if scan else depth
  assert flops(0) < 2.2 * counted < 2.5 * counted < flops(1)


def test_dropout_needs_no_key_where_it_is_off():
  x = jnp.ones((2, 3))
  assert (nn.apply(lambda m: m(x, deterministic=True), layers.Dropout(0.5))({}) == x).all()
  assert (nn.apply(lambda m: m(x, deterministic=False), layers.Dropout(0.0))({}) == x).all()


SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 0, 0], [1, 2, 2, 2, 2, 3, 3, 3]])


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('path', ['plain', 'dropout', 'bfloat16', 'columns', 'cudnn'])
def test_attention_is_that_of_each_segment_alone(monkeypatch, path, causal):
  query, key, value = (normal(i, (2, 8, 3, 4)) for i in range(3))
  dtype = jnp.bfloat16 if path == 'bfloat16' else jnp.float32
  columns = jnp.array([[2, 4, 7], [7, 0, 3]]) if path == 'columns' else None
  given, theirs = [], jax.nn.dot_product_attention

  def without_gpu(*args, implementation, **kwargs):  # What cudnn is asked for, JAX's xla computes.
    given.append(implementation)
    return theirs(*args, **kwargs, implementation='xla')

  monkeypatch.setattr(jax.nn, 'dot_product_attention', without_gpu)
  call = functools.partial(
    attention_lib.attention,
    causal=causal,
    implementation='cudnn' if path == 'cudnn' else 'xla',
    dropout=(lambda weights: weights) if path == 'dropout' else None,
  )
  asked = query if columns is None else jnp.stack([q[c] for q, c in zip(query, columns)])
  inputs = (x.astype(dtype) for x in (asked, key, value))
  found = jax.jit(call)(*inputs, SEGMENTS, columns=columns)
  expected = np.zeros((2, 8, 3, 4))
  for row, segments in enumerate(SEGMENTS):
    for segment in np.unique(segments):
      where = np.flatnonzero(segments == segment)
      q, k, v = (np.asarray(x[row, where]) for x in (query, key, value))
      scores = np.einsum('tnh,snh->nts', q, k) / 2
      if causal:
        scores = np.where(np.tri(len(where)), scores, -np.inf)
      weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
      expected[row, where] = np.einsum('nts,snh->tnh', weights, v)
  if columns is not None:
    expected = np.stack([row[c] for row, c in zip(expected, np.asarray(columns))])
  tolerance = 3e-2 if path == 'bfloat16' else 1e-5
  np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=tolerance)
  assert given == ['cudnn'] * (path == 'cudnn')


def test_attention_dropout_drops_weights():
  query, key = normal(0, (1, 64, 2, 4)), normal(1, (1, 64, 2, 4))
  value = jnp.ones((1, 64, 2, 4))
  drop = functools.partial(ops.drop, jax.random.key(0), 0.5)
  y = attention_lib.attention(query, key, value, dropout=drop)
  assert abs(float(y.mean()) - 1) < 0.1  # Without dropout all are 1.
  assert float(y.std()) > 0.05


@pytest.mark.parametrize('name', ['gelu', 'gelu_new', 'relu'])
def test_activations(name):
  x = np.linspace(-5, 5, 101).astype(np.float32)
  expected = {
    'gelu': x * special.ndtr(x),
    'gelu_new': 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    'relu': np.maximum(x, 0),
  }[name]
  np.testing.assert_allclose(ops.activate(ops.ACTIVATIONS[name], jnp.asarray(x)), expected, atol=1e-6)
  low = ops.activate(ops.ACTIVATIONS[name], jnp.asarray(x, jnp.bfloat16))
  assert low.dtype == jnp.bfloat16


def test_layer_norm_keeps_its_digits_beside_outliers():
  # Mean 1000, spread 1: E[x^2] - E[x]^2 in float32 has no correct digit left.
  x = 1000 + normal(0, (4, 256))
  y = layers.LayerNorm(1e-5, jnp.float32).apply(
    {'params': {'scale': jnp.ones(256), 'bias': jnp.zeros(256)}}, x
  )
  exact = np.asarray(x, np.float64)
  exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(y, exact, atol=1e-3)


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(remat='some'), "remat='some': choose one of none, full, dots"),
    (dict(attention='flash'), "attention='flash': choose one of xla, cudnn"),
    (dict(hidden_dropout=1.0), r'hidden_dropout=1.0: a dropout rate lies in \[0, 1\)'),
    (dict(dtype='int8'), "dtype='int8': choose one of float32, bfloat16, float16"),
    (dict(attention='cudnn'), "attention='cudnn' computes in bfloat16 or float16, but dtype is"),
    (dict(dtype='float31'), "dtype='float31': choose one of"),
  ],
)
def test_options_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    layers.Options(**options)
