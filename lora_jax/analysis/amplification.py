"""How an update relates to the weight that it is added to: section 7.3, table 7."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lora_jax.analysis import subspace


class Row(NamedTuple):
  """A cell of table 7. Norms are Frobenius norms.

  Attributes:
    rank: number of directions, r.
    weight: ||W||.
    update: ||dW||, with alpha / r in it.
    on_update: ||U^T W V^T||, U and V the top r singular directions of dW.
    on_weight: the same with those of W itself: the most that r directions can hold.
    on_random: the same with those of a Gaussian matrix; its mean square is r^2 ||W||^2 / (d k).
    amplification: ||dW|| / on_update, infinite if W has nothing in those directions.
  """

  rank: int
  weight: float
  update: float
  on_update: float
  on_weight: float
  on_random: float
  amplification: float


def projection(weight: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> float:
  """||inputs^T weight outputs||_F of a kernel [d, k] on [d, r] and [k, r]: the paper's U^T W V^T.

  The kernel is the paper's W transposed and so are the sides; the norm is the same.
  """
  return float(np.linalg.norm(inputs.T @ weight @ outputs))


def measure(
  weight: np.ndarray,
  svd: tuple[np.ndarray, np.ndarray, np.ndarray],
  values: np.ndarray,
  random: np.random.Generator,
) -> Row:
  """Table 7 for a matrix.

  Args:
    weight: kernel [d, k].
    svd: of the update, as `factors.thin_svd` gives it: input side, singular values, output side.
    values: the weight's singular values, falling.
    random: draws the control.

  Raises:
    ValueError: if the update is zero.
  """
  inputs, singular, outputs = svd
  rank = len(singular)
  if not rank:
    raise ValueError('the update is zero, so it has no directions: was anything trained?')
  drawn = [subspace.random_directions(random, size, rank) for size in weight.shape]
  on_update = projection(weight, inputs, outputs)
  norm = float(np.linalg.norm(singular))
  return Row(
    rank=rank,
    weight=float(np.linalg.norm(weight)),
    update=norm,
    on_update=on_update,
    on_weight=float(np.linalg.norm(values[:rank])),
    on_random=projection(weight, *drawn),
    amplification=norm / on_update if on_update else float('inf'),
  )
