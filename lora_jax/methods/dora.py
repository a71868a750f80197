"""DoRA, arXiv 2402.09353: the direction of a weight is adapted by LoRA, its magnitude by a vector.

Each column of W + s a b, the weights of one output, gets the length that `lora_m` [k] says; it
starts as that of W's column. The length before is held fixed in the gradient (the paper's section
4.3), as in PEFT.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lora_jax.methods.lowrank import Factor

TINY = 1e-30  # In the place of a squared norm of zero: the column stays zero.


def column_norms(weight: Factor, n_stack: int, n_out: int) -> jax.Array:
  """The norm of each output's column, [stack..., out...], of a weight [stack..., in..., out...]."""
  inputs = tuple(range(n_stack, weight.ndim - n_out))
  return jnp.sqrt(jnp.sum(jnp.square(weight.astype(jnp.float32)), inputs))


def scaled(weight: jax.Array, m: Factor, n_stack: int) -> jax.Array:
  """The weight with the lengths `m` [stack..., out...] of its columns."""
  norms = jnp.maximum(column_norms(weight, n_stack, m.ndim - n_stack), math.sqrt(TINY))
  inputs = range(n_stack, n_stack + weight.ndim - m.ndim)
  return jnp.expand_dims(m / norms, tuple(inputs)) * weight


def gain(weight: Factor, a: Factor, b: Factor, scale: float | jax.Array, m: Factor) -> jax.Array:
  """What each column of W + s a b is multiplied with, float32 [out...], of one layer.

  No array of the weight's size is made: with w and b of one output, |w + s a b|^2 = |w|^2
  + 2 s b (a^T w) + s^2 b (a^T a) b. A weight in a low dtype is multiplied with `a` in that dtype.
  """
  weight, a, b = (lax.stop_gradient(jnp.asarray(x)) for x in (weight, a, b))
  inputs = tuple(range(a.ndim - 1))

  def down(x: jax.Array) -> jax.Array:
    dims = ((inputs, inputs), ((), ()))
    low, precision = a.astype(x.dtype), lax.Precision.HIGHEST
    return lax.dot_general(low, x, dims, precision, preferred_element_type=jnp.float32)

  with_b = lambda x: jnp.sum(b * x, 0)
  through = lax.dot_general(down(a), b, (((1,), (0,)), ((), ())), lax.Precision.HIGHEST)
  squares = jnp.sum(jnp.square(weight.astype(jnp.float32)), inputs)
  squares += 2 * scale * with_b(down(weight)) + scale**2 * with_b(through)
  return jnp.asarray(m) / jnp.sqrt(jnp.maximum(squares, TINY))


def output(
  module: nn.Module, dropped: jax.Array | None, wx: jax.Array, update: jax.Array, g: jax.Array
) -> jax.Array:
  """What the adapted layer returns: W x, the bias, (g - 1) W x, and g times LoRA's update.

  Args:
    module: the layer.
    dropped: its input after dropout, which the weight in (g - 1) W x sees too, as in PEFT; None if
      there is no dropout.
    wx: what the layer returns without a method.
    update: s x a b, in the dtype of `wx`.
    g: see `gain`.
  """
  g = jnp.expand_dims(g, tuple(range(wx.ndim - g.ndim)))
  base = wx
  if dropped is not None:
    params = {'kernel': module.get_variable('params', 'kernel')}
    alone = module.clone(use_bias=False, parent=None, name=None)
    base = jnp.asarray(alone.apply({'params': params}, dropped))
  elif module.has_variable('params', 'bias'):
    bias = module.get_variable('params', 'bias').astype(wx.dtype)
    base = wx - jnp.expand_dims(bias, tuple(range(wx.ndim - bias.ndim)))
  return wx + (g - 1).astype(wx.dtype) * base + g.astype(wx.dtype) * update
