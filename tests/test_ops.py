"""Products that accumulate in float32 and their gradients, activations, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params
from scipy import special

from lora_jax import ops

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


@pytest.mark.parametrize('name', ops.ACTIVATIONS)
def test_activations(name):
  x = np.linspace(-5, 5, 101).astype(np.float32)
  expected = {
    'gelu': x * special.ndtr(x),
    'gelu_new': 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    'relu': np.maximum(x, 0),
    'silu': x * special.expit(x),
  }[name]
  np.testing.assert_allclose(
    ops.activate(ops.ACTIVATIONS[name], jnp.asarray(x)), expected, atol=1e-6
  )
  low = ops.activate(ops.ACTIVATIONS[name], jnp.asarray(x, jnp.bfloat16))
  assert low.dtype == jnp.bfloat16


@pytest.mark.parametrize('groups', [1, 2])
def test_a_low_precision_convolution_accumulates_in_float32_and_so_does_its_gradient(groups):
  """Sums of thousands of ones: in bfloat16 a sum of ones stops at 256."""
  x = jnp.ones((1, 40, 40, 64 * groups), jnp.bfloat16)
  kernel = jnp.ones((3, 3, 64, 2 * groups), jnp.bfloat16)
  options = dict(dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=groups)
  convolve = lambda x, kernel: ops.conv_general_dilated(x, kernel, (1, 1), 'VALID', **options)
  y, gradients = jax.vjp(convolve, x, kernel)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(y.astype(jnp.float32), 9 * 64)
  of_x, of_kernel = gradients(jnp.ones_like(y))
  np.testing.assert_array_equal(of_kernel.astype(jnp.float32), jnp.bfloat16(38 * 38))
  assert float(of_x.astype(jnp.float32).max()) == 9 * 2
  traced = str(jax.make_jaxpr(convolve)(x, kernel))
  assert 'preferred_element_type=float32' in traced


def test_dropout_keeps_the_mean_and_the_rate():
  x = jnp.ones((64, 1001))
  y = ops.drop(jax.random.key(0), 0.3, x)
  values = np.unique(y)
  np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-4)
  assert abs(float((y == 0).mean()) - 0.3) < 0.01
  assert abs(float(y.mean()) - 1) < 0.01
  # Neighboring elements share a random word, but not their fate.
  pairs = np.asarray(y[:, :1000] == 0).reshape(-1, 2)
  assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.03


def test_dropout_at_either_end_of_its_rates():
  x = jnp.ones((8, 3), jnp.bfloat16)
  assert ops.drop(jax.random.key(0), 0.0, x) is x
  assert ops.drop(jax.random.key(0), 1e-6, x) is x  # Rounds to no dropout.
  most = ops.drop(jax.random.key(0), 1 - 1e-9, x)
  assert (most.dtype, most.shape) == (x.dtype, x.shape) and jnp.isfinite(most).all()
