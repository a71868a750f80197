"""How many directions an update uses, from its singular values."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def effective_rank(values: Float[np.ndarray, ' n']) -> float:
  """exp of the entropy of the singular values over their sum (Roy & Vetterli 2007), in [1, n].

  n equal singular values have n, a single one has 1; 0 for no singular value.
  """
  values = np.asarray(values, np.float64)
  values = values[values > 0]
  if not len(values):
    return 0.0
  share = values / values.sum()
  return float(np.exp(-np.sum(share * np.log(share))))


def stable_rank(values: Float[np.ndarray, ' n']) -> float:
  """||M||_F^2 / ||M||_2^2, in [1, n]; 0 for no singular value. It weighs the top one more."""
  values = np.asarray(values, np.float64)
  if not len(values) or not values.max():
    return 0.0
  return float(np.sum(np.square(values / values.max())))
