"""FLOPs of traced functions."""

import jax
import jax.numpy as jnp
import pytest

from lora_jax import ops
from lora_jax.cost import flops


def test_flops_count_every_turn_of_a_loop():
  x, w = jnp.zeros((8, 16)), jnp.zeros((5, 16, 16))
  looped = jax.make_jaxpr(lambda x, w: jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0])(x, w)
  assert flops.count(looped) == 5 * 2 * 8 * 16 * 16
  expensive = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x.T @ x, lambda x: x, x)
  assert flops.count(jax.make_jaxpr(expensive)(x)) == 2 * (2 * 8 * 8 * 16)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_frozen_kernel_has_no_product_for_its_gradient(dtype):
  """Three layers: forward, forward again but for the last product, back to the first input."""
  kernels, x = jnp.zeros((3, 16, 16), dtype), jnp.zeros((8, 16), dtype)
  layer = jax.checkpoint(lambda x, kernel: (ops.matmul(jnp.sin(x), kernel), None))
  loss = lambda x, kernels: jax.lax.scan(layer, x, kernels)[0].astype('float32').sum()
  product = 2 * 8 * 16 * 16
  frozen = jax.jit(jax.grad(loss)).trace(x, kernels).jaxpr
  assert flops.count(frozen) == 3 * 2 * product
  trained = jax.jit(jax.grad(loss, (0, 1))).trace(x, kernels).jaxpr
  assert flops.count(trained) == 3 * 3 * product


@pytest.mark.parametrize('groups', [1, 3])
def test_a_convolution_multiplies_each_output_with_a_window(groups):
  x, kernel = jnp.zeros((2, 5, 4, 6)), jnp.zeros((3, 2, 6 // groups, 9))
  convolve = lambda x, kernel: jax.lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )
  counted = flops.count(jax.make_jaxpr(convolve)(x, kernel))
  assert counted == 2 * (2 * 5 * 4 * 9) * (3 * 2 * 6 // groups)
