"""The Fastfood transform (Le et al., 2013): a random linear map of few numbers to many, not stored.

    P x = H G Pi H B x / sqrt(n size),    x [d], P x [size]

n is `size` padded to a power of two, H the Walsh-Hadamard matrix of n rows, B random signs, Pi a
random permutation and G Gaussian. The product takes O(n log n), and no matrix of it is stored: B,
Pi and G are hashes of an index and of a seed, the same on every device and in every version of JAX.
Each column of P has unit length in expectation, as in the second of the papers of `intrinsic.py`.

P of d numbers is the first d columns of that of more, so zeros at the end of x change nothing. Of
an x that is longer than n the first n numbers count, as in the code of those authors. (Where all of
10,000 numbers moved each bias, the loss was too curved for SST-2 to be learned at the rates 1e-4,
1e-3 and 1e-2.) Their code has another gradient: in the backward pass it divides by sqrt(n) at each
of the two products, though not in the forward pass. Here it is that of the forward pass.

Of the first product there are only as many different values as x has numbers, padded to a power of
two: it is the small product, repeated.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, UInt32

WIDTH_BITS = 7  # A transform is a few products with matrices of at most 2**7 rows.
SIGNS, ORDER, GAUSS = range(3)  # Streams of random numbers.
ROUNDS = 3  # Of the permutation.

Vector = Float[jax.Array, '_']
Index = UInt32[jax.Array, '...']


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def project(x: Vector, seed: Index, size: int) -> Vector:
  """P x, [size], of x [d] in float32; the seed is an unsigned number."""
  n = _padded(size)
  table = hadamard(_signed(x, seed, n))
  index = lax.iota(jnp.uint32, n)
  y = table[_permute(index, seed) & np.uint32(len(table) - 1)] * _gaussian(index, seed)
  return hadamard(y)[:size] / math.sqrt(n * size)


def _forward(x: Vector, seed: Index, size: int) -> tuple[Vector, tuple[Vector, Index]]:
  return project(x, seed, size), (x, seed)


def _backward(size: int, saved: tuple[Vector, Index], cotangent: Vector) -> tuple[Vector, None]:
  """The transposed product. Of the forward pass it keeps the seed alone.

  Values are gathered by the inverse permutation: to scatter them by the permutation itself is slow.
  """
  x, seed = saved
  n = _padded(size)
  index = lax.iota(jnp.uint32, n)
  y = hadamard(jnp.pad(cotangent, (0, n - size))) * _gaussian(index, seed)
  width = min(n, _padded(len(x)))
  table = hadamard(y[_unpermute(index, seed)].reshape(-1, width).sum(0))[: len(x)]
  found = jnp.pad(table, (0, len(x) - len(table)))
  return found * _signs(len(x), seed) / math.sqrt(n * size), None


project.defvjp(_forward, _backward)


def hadamard(x: Vector) -> Vector:
  """H x, of a length that is a power of two, not normalized.

  The matrix is a product of small ones, each for some bits of the index. A step takes the first
  bits and leaves them behind the others; after the last one the order is as it was.
  """
  bits = (len(x) - 1).bit_length()
  steps = -(-bits // WIDTH_BITS)
  for step in range(steps):
    matrix = _matrix(bits // steps + (step < bits % steps))
    first = (((0,), (0,)), ((), ()))
    x = lax.dot_general(
      x.reshape(len(matrix), -1), jnp.asarray(matrix), first, precision=lax.Precision.HIGHEST
    ).reshape(-1)
  return x


def mix(x: Index) -> Index:
  """A hash of each number (the finalizer of MurmurHash3), a bijection of 32 bits."""
  x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


@functools.cache
def _matrix(bits: int) -> np.ndarray:
  return functools.reduce(np.kron, [np.array([[1, 1], [1, -1]], np.float32)] * bits)


def _padded(size: int) -> int:
  return 1 << (size - 1).bit_length()


def _signed(x: Vector, seed: Index, n: int) -> Vector:
  """B x of the first n numbers, padded to a power of two."""
  signed = (x * _signs(len(x), seed))[:n]
  return jnp.pad(signed, (0, _padded(len(signed)) - len(signed)))


def _stream(seed: Index, number: int) -> Index:
  return mix(seed + np.uint32(number * 0x9E3779B1 % 2**32))


def _signs(count: int, seed: Index) -> Vector:
  bits = mix(lax.iota(jnp.uint32, count) + _stream(seed, SIGNS)) & np.uint32(1)
  return 1 - 2 * bits.astype(jnp.float32)


def _gaussian(index: Index, seed: Index) -> Vector:
  bits = mix(index * np.uint32(0x9E3779B1) + _stream(seed, GAUSS)) >> 8
  uniform = bits.astype(jnp.float32) * 2**-23 - (1 - 2**-24)  # In (-1, 1), symmetric.
  return math.sqrt(2) * lax.erf_inv(uniform)


def _keys(seed: Index) -> list[tuple[Index, Index]]:
  """An odd factor and a summand of each round of the permutation."""
  number = lambda i: mix(_stream(seed, ORDER) + np.uint32(i))
  return [(number(2 * i) | np.uint32(1), number(2 * i + 1)) for i in range(ROUNDS)]


def _permute(index: Index, seed: Index) -> Index:
  """A random permutation of 0 to n - 1, n being the length of `index`, a power of two."""
  bits = (len(index) - 1).bit_length()
  for factor, summand in _keys(seed):
    index = (index * factor + summand) & np.uint32(len(index) - 1)
    index ^= index >> max(1, -(-bits // 2))
  return index


def _unpermute(index: Index, seed: Index) -> Index:
  """The inverse of `_permute`."""
  bits = (len(index) - 1).bit_length()
  for factor, summand in reversed(_keys(seed)):
    index ^= index >> max(1, -(-bits // 2))  # Its own inverse: it moves the upper half down.
    index = ((index - summand) * _inverse(factor)) & np.uint32(len(index) - 1)
  return index


def _inverse(odd: Index) -> Index:
  """The inverse of an odd number modulo 2**32; each of Newton's steps doubles the correct bits."""
  inverse = odd  # Correct to three bits.
  for _ in range(4):
    inverse *= np.uint32(2) - odd * inverse
  return inverse
