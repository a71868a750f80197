"""The parameters of a base with the kernels of its layers quantized."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lora_jax import errors, stacking, tree
from lora_jax.quantization import formats
from lora_jax.quantization.kernel import Kernel

# The kernels of the dense layers inside the model's layers. Embeddings, norms, biases and heads
# stay, and so does a convolution, which is not in a layer.
KERNELS = rf'{stacking.LAYER}/.*/kernel'


def is_quantizable(path: str) -> bool:
  """Whether a leaf is a kernel of a layer, by its path in a looped or a scanned model."""
  return re.fullmatch(KERNELS, path) is not None


def encode(weight: np.ndarray, format: str) -> formats.Arrays:
  """The arrays of a matrix [d, k].

  Raises:
    ValueError: for a format that nothing is encoded in (near ones are offered), or a number that
      is not finite.
  """
  _check_format(format)
  weight = np.asarray(weight, np.float32)
  if not np.isfinite(weight).all():
    raise ValueError('NaN or infinity')
  return formats.ENCODERS[format](weight)


def make(
  matrices: Sequence[formats.Arrays], format: str, shape: Sequence[int], dtype: DTypeLike
) -> Kernel:
  """The kernel of the shape `shape` [stack..., d, k] that these encoded matrices are."""
  *stack, rows, _ = shape
  arrays = {
    name: np.stack([arrays[name] for arrays in matrices]).reshape((*stack, *first.shape))
    for name, first in matrices[0].items()
  }
  return Kernel(arrays, format, rows, np.dtype(dtype))


def declare(leaf: jax.ShapeDtypeStruct, format: str) -> Kernel:
  """The kernel that a leaf of this shape becomes, as shapes alone."""
  *stack, rows, columns = leaf.shape
  arrays = {
    name: jax.ShapeDtypeStruct((*stack, *x.shape), x.dtype)
    for name, x in formats.shapes(format, rows, columns).items()
  }
  return Kernel(arrays, format, rows, np.dtype(leaf.dtype))


def quantize(params: tree.Params, format: str) -> tree.Tree:
  """A model's parameters, arrays or shapes, with the kernels of its layers quantized.

  Arrays are encoded on the host, matrix by matrix.

  Raises:
    ValueError: as `encode`, naming the leaf.
  """
  _check_format(format)
  leaves = tree.flatten(params)
  for path in filter(is_quantizable, list(leaves)):
    leaf = leaves[path]
    if isinstance(leaf, jax.ShapeDtypeStruct):
      leaves[path] = declare(leaf, format)
      continue
    whole = np.asarray(leaf).reshape(-1, *leaf.shape[-2:])
    try:
      leaves[path] = make([encode(x, format) for x in whole], format, leaf.shape, leaf.dtype)
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from None
  return tree.unflatten(leaves)


def exact(params: tree.Params, dtype: DTypeLike | None = None) -> tree.Tree:
  """The parameters with all quantized kernels as arrays of `dtype`; None is what they declare."""
  leaves = tree.flatten(params)
  for path, kernel in kernels(params).items():
    leaves[path] = kernel.astype(dtype or kernel.dtype)
  return tree.unflatten(leaves)


def declared_as(leaf: jax.Array | np.ndarray | Kernel, dtype: DTypeLike) -> jax.Array | Kernel:
  """A leaf in a dtype; of a quantized kernel, whose codes stay, the dtype that a merge casts to."""
  if isinstance(leaf, Kernel):
    return dataclasses.replace(leaf, dtype=np.dtype(dtype))
  return jnp.asarray(leaf).astype(dtype)


def kernels(params: tree.Params) -> dict[str, Kernel]:
  """The quantized kernels by path."""
  return {path: leaf for path, leaf in tree.flatten(params).items() if isinstance(leaf, Kernel)}


def _check_format(format: str) -> None:
  if format not in formats.ENCODERS:
    raise ValueError(f'quantize={format!r}. {errors.nearest(format, formats.ENCODERS)}')
