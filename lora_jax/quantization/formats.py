"""The formats of quantized kernels: what a code stands for, and how a matrix is encoded, in NumPy.

Along the inputs of each output, `block` weights share a scale: weight = value(code) * scale, plus
an offset in `q4_1`. Two codes of 4 bits are a byte, the first one in its high half.

`int8` has a scale for each output, absmax / 127. `nf4` is QLoRA's (arXiv 2305.14314): a code is the
nearest of 16 quantiles of a normal distribution, and the scale of a block, its absmax, is stored in
8 bits: less the mean of all, it is the nearest of 256 numbers times the absmax of 256 blocks. The
bytes are those of bitsandbytes for the transposed matrix, if the inputs are whole blocks. `q8_0`,
`q4_0` and `q4_1` are those of GGUF files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

# The values of NF4's codes, as bitsandbytes writes them (csrc/kernels.cu, dDequantizeNF4).
# fmt: off
NF4 = np.array([
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
  0.7229568362236023, 1.0,
], np.float32)
# fmt: on
GROUP = 256  # Blocks of nf4 whose scales share a scale.

Arrays = dict[str, np.ndarray]
Matrix = Float[np.ndarray, 'd k']


class Format(NamedTuple):
  """A format.

  Attributes:
    bits: of a code, 4 or 8.
    block: number of inputs that share a scale; 0 is all of them.
    value: the float32 value of each code before the scale.
  """

  bits: int
  block: int
  value: Callable[[jax.Array], jax.Array]


def nearest(values: np.ndarray, x: np.ndarray) -> np.ndarray:
  """The number of the nearest of ascending `values` for each x, uint8; the lower one of a tie."""
  between = (values[:-1] + values[1:]) / 2
  return np.searchsorted(between, x, side='left').astype(np.uint8)


def _dynamic_values() -> np.ndarray:
  """The 256 values of bitsandbytes' dynamic 8-bit type in [-1, 1], float32, ascending.

  For the decimal exponents -6 to 0 there are 1, 2, 4, ..., 64 fractions, evenly spaced in
  [0.1, 1], of either sign (Dettmers, 8-bit optimizers, arXiv 2110.02861); besides 0 and 1. They are
  rounded where torch.linspace rounds.
  """
  values = [np.zeros(1, np.float32), np.ones(1, np.float32)]
  low, one = np.float32(0.1), np.float32(1)
  for exponent in range(-6, 1):
    count = 2 ** (exponent + 6)
    steps, step = np.arange(count + 1), np.float64((one - low) / np.float32(count))
    up, down = low + step * steps, one - step * steps[::-1]
    edges = np.where(steps <= count // 2, up, down).astype(np.float32)
    middles = (edges[:-1] + edges[1:]) / 2 * np.float32(10.0**exponent)
    values += [middles, -middles]
  return np.sort(np.concatenate(values))


DYNAMIC = _dynamic_values()


def shapes(format: str, rows: int, columns: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The arrays of a kernel [rows, columns] by name."""
  bits, block, _ = FORMATS[format]
  blocks = -(-rows // block) if block else 1
  inputs = blocks * block or rows
  shape = jax.ShapeDtypeStruct
  scale = {'nf4': np.uint8, 'int8': np.float32}.get(format, np.float16)
  found = {
    'codes': shape((inputs * bits // 8, columns), np.int8 if bits == 8 else np.uint8),
    'scales': shape((blocks, columns), scale),
  }
  if format == 'q4_1':
    found['offsets'] = found['scales']
  if format == 'nf4':
    found['group_scales'] = shape((-(-blocks * columns // GROUP),), np.float32)
    found['offset'] = shape((), np.float32)
  return found


def pack(codes: np.ndarray) -> np.ndarray:
  """Codes [2 m, k] of 4 bits as bytes [m, k]: an even row is in the high half."""
  return codes[::2] << 4 | codes[1::2]


def encode_int8(weight: Matrix) -> Arrays:
  """Codes int8 [d, k] and scales float32 [1, k]."""
  absmax = np.abs(weight).max(axis=0, keepdims=True).astype(np.float32)
  codes = np.rint(weight * (np.float32(127) / _nonzero(absmax)))
  return {'codes': codes.astype(np.int8), 'scales': absmax / np.float32(127)}


def encode_nf4(weight: Matrix) -> Arrays:
  """Codes uint8 [d / 2, k]; scales uint8 [d / 64, k], a scale for 256 of them, and their mean.

  d is that of whole blocks: zeros fill up the last one.
  """
  block, columns = FORMATS['nf4'].block, weight.shape[1]
  padded = np.pad(weight.astype(np.float32), ((0, -len(weight) % block), (0, 0)))
  blocks = padded.reshape(-1, block, columns)
  absmax = np.abs(blocks).max(axis=1)
  codes = nearest(NF4, blocks * (1 / _nonzero(absmax))[:, None])
  flat = absmax.T.reshape(-1)  # The order of bitsandbytes, whose matrices are [outputs, inputs].
  offset = flat.mean()
  flat = np.pad(flat - offset, (0, -flat.size % GROUP)).reshape(-1, GROUP)
  groups = np.abs(flat).max(axis=1)
  scales = nearest(DYNAMIC, flat * (1 / _nonzero(groups))[:, None]).reshape(-1)[: absmax.size]
  return {
    'codes': pack(codes.reshape(-1, columns)),
    'scales': np.ascontiguousarray(scales.reshape(columns, -1).T),
    'group_scales': groups,
    'offset': np.asarray(offset),
  }


def of_file(data: np.ndarray, format: str) -> Arrays:
  """The arrays of a kernel [d, k] from a GGUF file's bytes [k, bytes of d inputs].

  A block is its scale, of q4_1 its offset too, both float16, and 32 codes. Of codes of 4 bits the
  low halves of its bytes are the first 16, the high halves the others.
  """
  bits, block, _ = FORMATS[format]
  header = 2 * (2 if format == 'q4_1' else 1)
  blocks = data.reshape(len(data), -1, header + block * bits // 8)
  numbers = np.ascontiguousarray(blocks[..., :header]).view(np.float16)
  codes = blocks[..., header:]
  if bits == 4:
    codes = np.concatenate([codes & 15, codes >> 4], axis=-1)
  codes = np.ascontiguousarray(codes.reshape(len(data), -1).T)
  found = {'codes': pack(codes) if bits == 4 else codes.view(np.int8)}
  for i, name in enumerate(('scales', 'offsets')[: header // 2]):
    found[name] = np.ascontiguousarray(numbers[..., i].T)
  return found


def _nonzero(absmax: np.ndarray) -> np.ndarray:
  """A divisor: 1 where all is zero."""
  return np.where(absmax == 0, np.float32(1), absmax)


def _number(codes: jax.Array) -> jax.Array:
  return codes.astype(jnp.float32)


FORMATS = {
  'int8': Format(8, 0, _number),
  'nf4': Format(4, 64, lambda codes: jnp.asarray(NF4).at[codes].get(mode='promise_in_bounds')),
  'q8_0': Format(8, 32, _number),
  'q4_0': Format(4, 32, lambda codes: _number(codes) - 8),
  'q4_1': Format(4, 32, _number),
}
ENCODERS = {'int8': encode_int8, 'nf4': encode_nf4}
