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


def quantize(
  params: tree.Params, format: str, patterns: str | Sequence[str] = KERNELS
) -> tree.Tree:
  """A model's parameters, arrays or shapes, with the kernels of its layers quantized.

  Arrays are encoded on the host, matrix by matrix.

  Args:
    params: those of the model, or the frozen part of them.
    format: `int8` or `nf4`.
    patterns: regular expressions of the paths of the kernels [d, k], of scanned layers [stack, d,
      k], each that of an `nn.Dense` or `nnx.Linear`: no other layer reads a quantized kernel. The
      default is all kernels in modules named `layers` or `layers_0`, `layers_1` and so on.

  Raises:
    ValueError: as `encode`, naming the leaf; if a pattern matches nothing, or no matrix.
  """
  _check_format(format)
  leaves = tree.flatten(params)
  found = tree.match(patterns, leaves, 'kernel to quantize')
  for path in dict.fromkeys(path for paths in found.values() for path in paths):
    leaf = leaves[path]
    if leaf.ndim not in (2, 3) or (leaf.ndim == 3 and stacking.layer_index(path) is not None):
      raise ValueError(
        f'{path} is {leaf.shape}: a kernel to quantize is a matrix [d, k] that an nn.Dense reads, '
        'or such matrices of scanned layers. Name the kernels that are by `patterns`.'
      )
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
