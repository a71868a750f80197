"""How much of one subspace lies in another: section 7.2, equation 4, appendix G."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Svd(NamedTuple):
  """A thin singular value decomposition of a matrix [d, k], by falling singular value.

  Attributes:
    inputs: left-singular vectors [d, n], directions in a layer's input.
    values: singular values [n].
    outputs: right-singular vectors [k, n], directions in its output.
  """

  inputs: Float[np.ndarray, 'd n']
  values: Float[np.ndarray, ' n']
  outputs: Float[np.ndarray, 'k n']


def numerical_rank(values: Float[np.ndarray, ' n'], size: int) -> int:
  """Number of falling singular values above rounding, for a matrix of larger dimension `size`."""
  if not len(values):
    return 0
  return int(np.sum(values > values[0] * size * np.finfo(np.float64).eps))


def directions(matrix: Float[np.ndarray, 'd k']) -> Float[np.ndarray, 'd n']:
  """Left-singular vectors [d, n] of a matrix [d, k], by falling singular value.

  n is the numerical rank: the vectors of zero singular values are arbitrary, and a padded factor
  has many. Those of `lora_a` [d, r] are the right-singular vectors of the paper's A.

  Raises:
    ValueError: if the matrix is zero.
  """
  u, s, _ = np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
  n = numerical_rank(s, max(matrix.shape))
  if not n:
    raise ValueError(f'a matrix {matrix.shape} of zeros has no singular directions')
  return u[:, :n]


def similarity(
  first: Float[np.ndarray, 'd1 n1'], second: Float[np.ndarray, 'd2 n2']
) -> Float[np.ndarray, 'n1 n2']:
  """phi(i, j) = ||U1[:, :i]^T U2[:, :j]||_F^2 / min(i, j), for all i and j at once.

  It is 1 if one subspace contains the other, 0 if they are orthogonal, and max(i, j) / d on average
  for random subspaces (`chance`).

  Args:
    first: U1 [d, n1], orthonormal columns.
    second: U2 [d, n2], orthonormal columns.

  Returns:
    [n1, n2] in [0, 1]; element [i - 1, j - 1] is phi(i, j).

  Raises:
    ValueError: if the dimensions of the two spaces differ.
  """
  if first.shape[0] != second.shape[0]:
    raise ValueError(
      f'directions of different spaces: {first.shape[0]} and {second.shape[0]} dimensions'
    )
  overlaps = np.square(first.T @ second)
  sums = overlaps.cumsum(axis=0).cumsum(axis=1)
  i, j = np.ogrid[1 : first.shape[1] + 1, 1 : second.shape[1] + 1]
  return np.clip(sums / np.minimum(i, j), 0, 1)


def chance(i: int, j: int, dimension: int) -> float:
  """Expected phi(i, j) of random subspaces: each unit vector has i/d of its square in one."""
  return max(i, j) / dimension


def random_directions(
  random: np.random.Generator, dimension: int, rank: int
) -> Float[np.ndarray, 'dimension rank']:
  """Directions [d, r] of a Gaussian matrix [d, r]: the paper's control."""
  return directions(random.standard_normal((dimension, rank)))
