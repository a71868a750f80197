"""Dropout, of the models' activations and of what goes into a method's factors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


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
