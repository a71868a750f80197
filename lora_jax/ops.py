"""The arithmetic that models and methods share, under one rule for numbers.

Accumulation of every product, normalization, activations and softmax run in float32; what passes
between layers has the compute dtype.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType
from jax.typing import DTypeLike

Axes = tuple[int, ...]
# The contracted axes of the two operands, and their batch axes, as `lax.dot_general` takes them.
Dims = tuple[tuple[Axes, Axes], tuple[Axes, Axes]]
Operand = jax.Array | np.ndarray
LOW = (jnp.bfloat16, jnp.float16)  # Dtypes whose products have to be told to accumulate in float32.


def dot_general(
  lhs: jax.Array,
  rhs: Operand,
  dimension_numbers: lax.DotDimensionNumbers,
  precision: lax.PrecisionLike = None,
  preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
  """`lax.dot_general` that accumulates in float32 and never multiplies float32 for a low dtype.

  For bfloat16 and float16 operands the result has their dtype, or `preferred_element_type`, and the
  backward products take the cotangent in the operands' dtype. Other operands go to `lax` as is.
  """
  if lhs.dtype == rhs.dtype and lhs.dtype in LOW:
    dtype = jnp.dtype(preferred_element_type or lhs.dtype)
    y = _low_dot(lhs, rhs, _static(dimension_numbers), precision, dtype)
  else:
    y = lax.dot_general(
      lhs, rhs, dimension_numbers, precision, preferred_element_type=preferred_element_type
    )
  batch = dimension_numbers[1][0]
  return y if batch else checkpoint_name(y, 'dense')


def matmul(x: jax.Array, kernel: Operand, precision: lax.PrecisionLike = None) -> jax.Array:
  """x [..., n] times a kernel [n, ...] by `dot_general`."""
  return dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())), precision)


# As Flax's own attention hands its product to `jnp.einsum`.
einsum = functools.partial(jnp.einsum, _dot_general=dot_general)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _low_dot(
  lhs: jax.Array, rhs: jax.Array, dims: Dims, precision: lax.PrecisionLike, dtype: np.dtype
) -> jax.Array:
  return _accumulate(lhs, rhs, dims, precision).astype(dtype)


def _low_dot_fwd(
  lhs: jax.Array, rhs: jax.Array, dims: Dims, precision: lax.PrecisionLike, dtype: np.dtype
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _low_dot(lhs, rhs, dims, precision, dtype), (lhs, rhs)


def _low_dot_bwd(
  dims: Dims,
  precision: lax.PrecisionLike,
  dtype: np.dtype,
  saved: tuple[jax.Array, jax.Array],
  g: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  # jit drops the product that no gradient asks for: a frozen kernel costs nothing here.
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


def _accumulate(
  lhs: jax.Array, rhs: jax.Array, dims: Dims, precision: lax.PrecisionLike
) -> jax.Array:
  return lax.dot_general(lhs, rhs, dims, precision, preferred_element_type=jnp.float32)


def _kept(x: jax.Array, contracted: Axes, batch: Axes) -> Axes:
  return tuple(i for i in range(x.ndim) if i not in (*contracted, *batch))


def _restore(x: jax.Array, axes: Axes, dtype: DTypeLike) -> jax.Array:
  """`x`, whose i-th axis is to be axis `axes[i]`."""
  return lax.transpose(x.astype(dtype), tuple(int(i) for i in np.argsort(axes)))


def _static(dims: lax.DotDimensionNumbers) -> Dims:
  """Dimension numbers as hashable tuples of Python integers."""
  axes = lambda numbers: tuple(operator.index(i) for i in numbers)
  (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dims
  return (axes(lhs_contract), axes(rhs_contract)), (axes(lhs_batch), axes(rhs_batch))


def conv_general_dilated(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **options: object,
) -> jax.Array:
  """`lax.conv_general_dilated` that accumulates in float32, as `dot_general` does.

  JAX cannot differentiate one with a wider `preferred_element_type`: it would convolve the float32
  cotangent with a kernel of the low dtype. So the backward pass is that of the plain convolution.
  """
  plain = functools.partial(
    lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
  )
  if lhs.dtype != rhs.dtype or lhs.dtype not in LOW:
    return plain(lhs, rhs)

  @jax.custom_vjp
  def convolve(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    return plain(lhs, rhs, preferred_element_type=jnp.float32).astype(lhs.dtype)

  convolve.defvjp(
    lambda lhs, rhs: (convolve(lhs, rhs), (lhs, rhs)),
    lambda saved, g: jax.vjp(plain, *saved)[1](g),
  )
  return convolve(lhs, rhs)


def normalize(
  x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: DTypeLike
) -> jax.Array:
  """Layer normalization over the last axis in float32, returned as `dtype`."""
  # The fast variance, E[x^2] - E[x]^2, loses digits where a residual stream has outliers.
  x = x.astype(jnp.float32)
  centered = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
  over = tuple(range(x.ndim - 1))
  scale, bias = (jnp.expand_dims(p.astype(jnp.float32), over) for p in (scale, bias))
  return (centered * lax.rsqrt(variance + epsilon) * scale + bias).astype(dtype)


def rms_normalize(x: jax.Array, scale: jax.Array, epsilon: float, dtype: DTypeLike) -> jax.Array:
  """x / sqrt(mean(x^2) + epsilon) * scale over the last axis, in float32, returned as `dtype`."""
  x = x.astype(jnp.float32)
  scale = jnp.expand_dims(scale.astype(jnp.float32), tuple(range(x.ndim - 1)))
  mean = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  return (x * lax.rsqrt(mean + epsilon) * scale).astype(dtype)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Rotary positions (Su et al. 2021): turns the pairs (i, i + width / 2) of each head.

  Args:
    x: queries or keys [R, T, heads, width].
    cos, sin: float32 [R, T, width / 2], of each pair's angle.

  Returns:
    [R, T, heads, width] in the dtype of `x`, computed in float32.
  """
  one, other = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cos, sin = cos[:, :, None, :], sin[:, :, None, :]
  turned = one * cos - other * sin, other * cos + one * sin
  return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def _gelu(x: jax.Array) -> jax.Array:
  # jax.nn.gelu goes by erfc, which takes twice the time of erf on CPU.
  return 0.5 * x * (1 + lax.erf(x * np.float32(np.sqrt(0.5))))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {  # By Hugging Face's names.
  'gelu': _gelu,
  'gelu_new': functools.partial(jax.nn.gelu, approximate=True),
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
}


def activate(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
  """`function(x)` computed in float32, returned in the dtype of `x`.

  Only `x` is kept for the gradient: less memory than its float32 factors, and no slower.
  """
  compute = lambda x: function(x.astype(jnp.float32)).astype(x.dtype)
  return jax.checkpoint(compute)(x)


def gate(function: Callable[[jax.Array], jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
  """`function(x) * y` computed in float32, returned in the dtype of `x`; only x and y are kept."""
  compute = lambda x, y: (function(x.astype(jnp.float32)) * y.astype(jnp.float32)).astype(x.dtype)
  return jax.checkpoint(compute)(x, y)


def drop(key: jax.Array, rate: float, x: jax.Array) -> jax.Array:
  """Zeroes each element with probability `rate`, to 1/65536, and rescales the others.

  Two elements share one random word: on CPU the bits are most of what dropout costs.

  Args:
    key: the random key of this draw.
    rate: the probability, in [0, 1).
    x: an array of any shape [..., n].
  """
  kept = max(1, round((1 - rate) * 65536))
  if kept == 65536:
    return x
  words = (*x.shape[:-1], -(-x.shape[-1] // 2))
  bits = lax.bitcast_convert_type(jax.random.bits(key, words, jnp.uint32), jnp.uint16)
  bits = bits.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
  scale = jnp.asarray(65536 / kept, x.dtype)  # By the rounded probability: no bias.
  return jnp.where(bits < np.uint16(kept), x * scale, jnp.zeros((), x.dtype))


def sharded_as(y: jax.Array, function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """The function with its result split as `y` is, on a mesh with explicit axes.

  There a product whose summed axis is split has to be told how its result is split. On any other
  mesh the compiler decides.
  """
  if AxisType.Explicit not in jax.sharding.get_abstract_mesh().axis_types:
    return function

  def run(*args: object) -> jax.Array:
    is_array = [isinstance(x, jax.Array) for x in args]
    arrays = [x for x in args if isinstance(x, jax.Array)]

    def of_arrays(arrays: list[jax.Array]) -> jax.Array:
      rest = iter(arrays)
      return function(*(next(rest) if array else x for x, array in zip(args, is_array)))

    split = jax.sharding.auto_axes(of_arrays, out_sharding=jax.typeof(y).sharding)
    return jnp.asarray(split(arrays))

  return run
