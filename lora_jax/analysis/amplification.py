"""The relation of an update to the weight that it is added to: section 7.3, table 7."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lora_jax.analysis import subspace
from lora_jax.analysis.subspace import Svd


class Row(NamedTuple):
  """An entry of table 7. Norms are Frobenius norms.

  Attributes:
    rank: number of directions, r.
    weight: ||W||.
    update: ||dW||, with alpha / r in it.
    on_update: ||U^T W V^T||, U and V the top r singular directions of dW.
    on_weight: the same with the directions of W itself: the largest possible value.
    on_random: the same with those of a Gaussian matrix; its mean square is r^2 ||W||^2 / (d k).
    amplification: ||dW|| / on_update, infinite if W is zero in those directions.
  """

  rank: int
  weight: float
  update: float
  on_update: float
  on_weight: float
  on_random: float
  amplification: float


def projection(
  weight: Float[np.ndarray, 'd k'],
  inputs: Float[np.ndarray, 'd r'],
  outputs: Float[np.ndarray, 'k r'],
) -> float:
  """||inputs^T weight outputs||_F of a kernel [d, k] on [d, r] and [k, r]: the paper's U^T W V^T.

  The kernel is the transpose of the paper's W, and the sides are exchanged; the norm is the same.
  """
  return float(np.linalg.norm(inputs.T @ weight @ outputs))


def measure(
  weight: Float[np.ndarray, 'd k'],
  svd: Svd,
  values: Float[np.ndarray, ' n'],
  random: np.random.Generator,
) -> Row:
  """Table 7 for a matrix.

  Args:
    weight: kernel [d, k].
    svd: the update's singular value decomposition.
    values: the weight's singular values, falling.
    random: generator of the control's directions.

  Raises:
    ValueError: if the update is zero.
  """
  rank = len(svd.values)
  if not rank:
    raise ValueError('the update is zero, so it has no directions: was anything trained?')
  random_sides = [subspace.random_directions(random, size, rank) for size in weight.shape]
  on_update = projection(weight, svd.inputs, svd.outputs)
  norm = float(np.linalg.norm(svd.values))
  return Row(
    rank=rank,
    weight=float(np.linalg.norm(weight)),
    update=norm,
    on_update=on_update,
    on_weight=float(np.linalg.norm(values[:rank])),
    on_random=projection(weight, *random_sides),
    amplification=norm / on_update if on_update else float('inf'),
  )
