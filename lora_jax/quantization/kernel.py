"""A quantized kernel: a leaf of a parameter tree that is codes and scales, in a kernel's shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from lora_jax.quantization import formats

# Shapes stand for arrays where a job is planned, NumPy's where one is not yet on a device.
Leaf = jax.Array | np.ndarray | jax.ShapeDtypeStruct
RUNS = 8  # Most pieces of a part, see `Cut`.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
  """A quantized kernel [stack..., d, k]; to JAX it is a node of the tree with its arrays in it.

  Attributes:
    arrays: `codes` [stack..., bytes of d codes, k]; `scales` [stack..., blocks, k]; of q4_1
      `offsets` like them; of nf4, whose scales are codes too, `group_scales` [stack..., groups] and
      `offset` [stack...].
    format: a name in `formats.FORMATS`.
    rows: the number of inputs d.
    dtype: the dtype of the kernel as the model declares it, which a merged kernel has.
  """

  arrays: Mapping[str, Leaf]
  format: str = dataclasses.field(metadata={'static': True})
  rows: int = dataclasses.field(metadata={'static': True})
  dtype: np.dtype = dataclasses.field(metadata={'static': True})

  @property
  def shape(self) -> tuple[int, ...]:
    """The kernel's shape."""
    *stack, _, columns = self.arrays['codes'].shape
    return (*stack, self.rows, columns)

  @property
  def ndim(self) -> int:
    """The number of axes."""
    return len(self.shape)

  def astype(self, dtype: DTypeLike) -> jax.Array:
    """The whole kernel, dequantized in float32 and cast once."""
    whole: Callable[[Kernel], jax.Array] = lambda kernel: dequantize(Blocks.of(kernel), dtype)
    for _ in range(self.ndim - 2):
      whole = jax.vmap(whole)
    return whole(self)[..., : self.rows, :]

  def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
    raise TypeError(
      f'a kernel {self.shape} in {self.format} is not an array: use astype(dtype), and quantize no '
      'kernel that is read by another layer than nn.Dense'
    )


@dataclasses.dataclass(frozen=True)
class Blocks:
  """A kernel, or a part of one, ready to be dequantized: its scales are numbers.

  Attributes:
    codes: [bytes of d codes, k].
    scales, offsets: [blocks, k]; most formats have no offsets.
    format: the name of the format.
  """

  codes: jax.Array
  scales: jax.Array
  offsets: jax.Array | None
  format: str

  @classmethod
  def of(cls, kernel: Kernel) -> Blocks:
    """The blocks of a kernel that is not a stack."""
    arrays = {name: jnp.asarray(x) for name, x in kernel.arrays.items()}
    scales = arrays['scales']
    if kernel.format == 'nf4':
      blocks = scales.shape[0]
      column, block = (lax.broadcasted_iota(jnp.int32, scales.shape, axis) for axis in (1, 0))
      group = (column * blocks + block) // formats.GROUP
      scales = jnp.asarray(formats.DYNAMIC)[scales] * arrays['group_scales'][group]
      scales += arrays['offset']
    return cls(arrays['codes'], scales, arrays.get('offsets'), kernel.format)

  @property
  def inputs(self) -> int:
    """The number of inputs of whole blocks: that of the kernel's, or a little more."""
    return self.codes.shape[0] * 8 // formats.FORMATS[self.format].bits

  def cut(self, axis: int, limit: int) -> Cut:
    """Cuts rows (axis 0, into whole blocks) or columns (axis 1) to `limit` weights a part."""
    rows = self.scales.shape[0] if formats.FORMATS[self.format].block else self.inputs
    units = (rows, self.codes.shape[1])[axis]
    fits = lambda n: units % n == 0 and self.inputs * self.codes.shape[1] <= n * limit
    parts = next(filter(fits, range(1, units)), units)
    runs = next(n for n in (RUNS, 4, 2, 1) if units // parts % n == 0)
    return Cut(axis, parts, runs)

  def part(self, cut: Cut, number: jax.Array) -> Blocks:
    """A part of the kernel."""
    shared = cut.axis == 0 and not formats.FORMATS[self.format].block
    scales = self.scales if shared else cut.take(self.scales, number)
    offsets = None if self.offsets is None else cut.take(self.offsets, number)
    return Blocks(cut.take(self.codes, number), scales, offsets, self.format)


class Cut(NamedTuple):
  """How an axis of a kernel is cut into equal parts.

  On a mesh an axis is split into neighboring runs, one for each device. A part has a piece of each
  run: so every device computes its share of every part, and its codes are sent to no other.

  Attributes:
    axis: 0 for rows, 1 for columns.
    parts: number of parts.
    runs: number of pieces that a part is made of.
  """

  axis: int
  parts: int
  runs: int

  def take(self, x: jax.Array, number: jax.Array) -> jax.Array:
    """A part of an array's axis."""
    before, after = x.shape[: self.axis], x.shape[self.axis + 1 :]
    split = x.reshape(*before, self.runs, self.parts, -1, *after)
    part = lax.dynamic_index_in_dim(split, number, self.axis + 1, keepdims=False)
    return part.reshape(*before, -1, *after)

  def join(self, parts: jax.Array) -> jax.Array:
    """The whole of what was computed of each part: [parts, ..., m] becomes [..., parts m]."""
    split = parts.reshape(*parts.shape[:-1], self.runs, -1)
    return jnp.moveaxis(split, 0, -2).reshape(*parts.shape[1:-1], -1)


def dequantize(blocks: Blocks, dtype: DTypeLike) -> jax.Array:
  """The weights [d, k], computed in float32; d is that of whole blocks."""
  kind, codes = formats.FORMATS[blocks.format], blocks.codes
  columns = codes.shape[1]
  if kind.bits == 4:
    shifts = np.array([4, 0], np.uint8)
    codes = (codes[:, None] >> shifts[None, :, None]) & np.uint8(15)
  values = kind.value(codes).reshape(blocks.scales.shape[0], -1, columns)
  values *= blocks.scales.astype(jnp.float32)[:, None]
  if blocks.offsets is not None:
    values += blocks.offsets.astype(jnp.float32)[:, None]
  return values.reshape(-1, columns).astype(dtype)
