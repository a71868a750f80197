"""The arithmetic that models and methods share, under one rule for numbers.

Accumulation of every product, normalization, activations and softmax run in float32; what passes
between layers has the compute dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

LOW = (jnp.bfloat16, jnp.float16)  # Dtypes whose products have to be told to accumulate in float32.


def dot_general(
  lhs: jax.Array,
  rhs: jax.Array,
  dimension_numbers: Any,
  precision: Any = None,
  preferred_element_type: Any = None,
) -> jax.Array:
  """`lax.dot_general` that accumulates in float32 and never multiplies float32 for a low dtype.

  For bfloat16 and float16 operands the result has their dtype, or `preferred_element_type`, and the
  backward products take the cotangent in the operands' dtype. Other operands go to `lax` as is.
  """
  if lhs.dtype == rhs.dtype and lhs.dtype in LOW:
    dims = jax.tree.map(int, _tuples(dimension_numbers))
    dtype = jnp.dtype(preferred_element_type or lhs.dtype)
    y = _low_dot(lhs, rhs, dims, precision, dtype)
  else:
    y = lax.dot_general(
      lhs, rhs, dimension_numbers, precision, preferred_element_type=preferred_element_type
    )
  batch = dimension_numbers[1][0]
  return y if batch else checkpoint_name(y, 'dense')


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _low_dot(lhs: jax.Array, rhs: jax.Array, dims: Any, precision: Any, dtype: Any) -> jax.Array:
  return _accumulate(lhs, rhs, dims, precision).astype(dtype)


def _low_dot_fwd(lhs: jax.Array, rhs: jax.Array, dims: Any, precision: Any, dtype: Any) -> Any:
  return _low_dot(lhs, rhs, dims, precision, dtype), (lhs, rhs)


def _low_dot_bwd(dims: Any, precision: Any, dtype: Any, saved: Any, g: jax.Array) -> Any:
  # Of the two, jit drops the one that nobody asks for: a frozen kernel costs no gradient.
  lhs, rhs = saved
  g = g.astype(lhs.dtype)
  (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dims
  lhs_kept = _kept(lhs, lhs_contract, lhs_batch)
  rhs_kept = _kept(rhs, rhs_contract, rhs_batch)
  batch = tuple(range(len(lhs_batch)))
  g_lhs = tuple(range(len(batch), len(batch) + len(lhs_kept)))
  g_rhs = tuple(range(len(batch) + len(lhs_kept), g.ndim))
  # As g rhs^T and lhs^T g. XLA's CPU compiler fails on some products in the other order, g^T lhs,
  # in bfloat16: "Unsupported element type for DotThunk" (jax 0.10.2).
  g_of_lhs = _accumulate(g, rhs, ((g_rhs, rhs_kept), (batch, rhs_batch)), precision)
  g_of_rhs = _accumulate(lhs, g, ((lhs_kept, g_lhs), (lhs_batch, batch)), precision)
  # The contracted axes come in the order in which the other operand holds them.
  by_rhs = [lhs_contract[i] for i in np.argsort(rhs_contract)]
  by_lhs = [rhs_contract[i] for i in np.argsort(lhs_contract)]
  return (
    _restore(g_of_lhs, (*lhs_batch, *lhs_kept, *by_rhs), lhs.dtype),
    _restore(g_of_rhs, (*rhs_batch, *by_lhs, *rhs_kept), rhs.dtype),
  )


_low_dot.defvjp(_low_dot_fwd, _low_dot_bwd)


def _accumulate(lhs: jax.Array, rhs: jax.Array, dims: Any, precision: Any) -> jax.Array:
  return lax.dot_general(lhs, rhs, dims, precision, preferred_element_type=jnp.float32)


def _kept(x: jax.Array, contracted: tuple[int, ...], batch: tuple[int, ...]) -> tuple[int, ...]:
  return tuple(i for i in range(x.ndim) if i not in (*contracted, *batch))


def _restore(x: jax.Array, axes: tuple[int, ...], dtype: Any) -> jax.Array:
  """`x`, whose i-th axis is to be axis `axes[i]`."""
  return lax.transpose(x.astype(dtype), tuple(int(i) for i in np.argsort(axes)))


def _tuples(nested: Any) -> Any:
  return tuple(_tuples(x) for x in nested) if hasattr(nested, '__iter__') else nested


def normalize(
  x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: Any
) -> jax.Array:
  """Layer normalization over the last axis in float32, returned as `dtype`."""
  # The fast variance, E[x^2] - E[x]^2, loses digits where a residual stream has outliers.
  x = x.astype(jnp.float32)
  centered = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
  over = tuple(range(x.ndim - 1))
  scale, bias = (jnp.expand_dims(p.astype(jnp.float32), over) for p in (scale, bias))
  return (centered * lax.rsqrt(variance + epsilon) * scale + bias).astype(dtype)


def _gelu(x: jax.Array) -> jax.Array:
  # jax.nn.gelu goes by erfc, which takes twice the time of erf on CPU.
  return 0.5 * x * (1 + lax.erf(x * np.float32(np.sqrt(0.5))))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {  # By Hugging Face's names.
  'gelu': _gelu,
  'gelu_new': functools.partial(jax.nn.gelu, approximate=True),
  'relu': jax.nn.relu,
}


def activation(name: str, x: jax.Array) -> jax.Array:
  """The activation in float32, returned in the dtype of `x`.

  Only `x` is kept for the gradient: less memory than its float32 factors, and no slower.
  """
  compute = lambda x: ACTIVATIONS[name](x.astype(jnp.float32)).astype(x.dtype)
  return jax.checkpoint(compute)(x)


def drop(key: jax.Array, rate: float, x: jax.Array) -> jax.Array:
  """Zeroes each element with probability `rate`, to 1/65536, and rescales the others.

  Two elements share one random word: on CPU the bits are most of what dropout costs.

  Args:
    key: of the draw.
    rate: in [0, 1).
    x: of any shape [..., n].
  """
  kept = max(1, round((1 - rate) * 65536))
  if kept == 65536:
    return x
  words = (*x.shape[:-1], -(-x.shape[-1] // 2))
  bits = lax.bitcast_convert_type(jax.random.bits(key, words, jnp.uint32), jnp.uint16)
  bits = bits.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
  scale = jnp.asarray(65536 / kept, x.dtype)  # Of the probability as rounded: no bias.
  return jnp.where(bits < np.uint16(kept), x * scale, jnp.zeros((), x.dtype))
