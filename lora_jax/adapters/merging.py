"""An adapter merged into its base, and how much of the update the base's dtype loses."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from lora_jax import quantization, tree

LARGEST_ERROR = 0.01  # Of the update, before a warning.


def merge(
  function: Callable[[tree.Params, tree.Params], tree.Tree],
  frozen: tree.Params,
  trainable: tree.Params,
  where: str,
) -> tuple[tree.Tree, float]:
  """The model's parameters, and the relative error of the update that was written into them.

  The error is |written - exact| / |exact update| over all merged leaves, in the Frobenius norm;
  exact is the merge into the same weights in float32. Above 1 % a warning names the dtype to use.
  Quantized weights are dequantized, added to, and cast once to the dtype that the model declares.

  Args:
    function: a method's `merge`, jitted or not.
    frozen, trainable: the two parts.
    where: the model, for the warning.

  Raises:
    ValueError: as the method's merge.
  """
  merged = quantization.exact(function(frozen, trainable))
  base = tree.flatten(frozen)
  low = [path for path, leaf in base.items() if leaf.dtype in (jnp.bfloat16, jnp.float16)]
  if not low:
    return merged, 0.0
  whole = tree.cast(quantization.exact(frozen, np.float32), np.float32)
  exact = tree.flatten(function(whole, trainable))
  written = tree.flatten(merged)
  sums = np.zeros(2)
  for path in low:
    sums += np.asarray(_squares(base[path], exact.pop(path), written[path]), np.float64)
  error = math.sqrt(sums[0] / sums[1]) if sums[1] else 0.0
  if error > LARGEST_ERROR:
    logging.warning(
      '%s: rounding to %s loses %.2g of the update (|written - exact| / |update|). Merge in '
      'float32 (--dtype=float32), or use the adapter unmerged.',
      where,
      base[low[0]].dtype,
      error,
    )
  return merged, error


@jax.jit
def _squares(base: jax.Array, exact: jax.Array, written: jax.Array) -> jax.Array:
  """Squared norms of the error and of the update."""
  update = exact - base.astype(jnp.float32)
  error = written.astype(jnp.float32) - exact
  return jnp.array([jnp.sum(error**2), jnp.sum(update**2)])
