"""Two runs on one base: figures 3, 4, 6 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lora_jax import errors
from lora_jax.analysis import factors, subspace

OF = ('a', 'b', 'update')  # Whose directions are compared.
Entry = dict[str, Any]  # A record of the report, as `writers.to_json` takes it.


def directions(update: factors.Update, of: str) -> Float[np.ndarray, 'd n']:
  """Directions of an update, by falling singular value.

  Args:
    update: the update of one matrix.
    of: `a` gives the directions [d, n] of the factor A in the input, as in the paper's figures.
      `update` gives the same space, ordered by the update's singular values. `b` gives the
      directions [k, n] of the factor B in the output. B starts at zero, so all of it was learned; A
      keeps much of its random initialization for long.

  Raises:
    ValueError: naming the matrix, if the factor or the update is zero.
  """
  if of not in OF:
    raise ValueError(f'of={of!r}: no such directions. {errors.nearest(of, OF)}')
  if not ((of == 'b' or update.a.any()) and (of == 'a' or update.b.any())):
    raise ValueError(f'{update.path}: {of} is zero, so it has no directions: was anything trained?')
  if of == 'update':
    return factors.thin_svd(update).inputs
  return subspace.directions(update.a if of == 'a' else update.b.T)


def compare(
  first: Sequence[factors.Update],
  second: Sequence[factors.Update],
  *,
  layers: Sequence[int] = (),
  matrices: Sequence[str] = (),
  of: str = 'a',
  seed: int = 0,
) -> Entry:
  """Subspace similarity of the updates of the matrices that two runs both adapted.

  Args:
    first: updates of the run that is indexed by i.
    second: updates of the run that is indexed by j.
    layers: numbers from 0. Empty means the first, one third, two thirds, the last, and the middle
      one, as the paper's 1, 32, 64, 96 and 48 of 96.
    matrices: names of matrices; empty means all that both runs adapted.
    of: one of `OF`.
    seed: seed of the two random Gaussians of the control.

  Returns:
    `middle`: the layer of figures 3 and 4; `spread`: those of figures 6 and 7; `maps`, each with
    path, layer, matrix, dimension, ranks [r1, r2] and phi [r1][r2]; `control`, one for each size.

  Raises:
    ValueError: if the runs have no matrix of a numbered layer in common, if either lacks a
      requested layer or matrix, or if a matrix has different shapes.
  """
  for found in (first, second):
    factors.select(found, matrices)
    factors.check_layers(found, layers)
  others = {update.path: update for update in second}
  common = factors.select(first, matrices, lambda update: update.path in others)
  have = sorted({update.layer for update in common if update.layer is not None})
  if not have:
    raise ValueError(
      'the runs adapted no matrix in common that lies in a numbered layer: '
      + ' against '.join(str(sorted({u.matrix for u in found})) for found in (first, second))
    )
  selected = sorted(layers) or sorted({*spread(have), have[len(have) // 2]})
  factors.check_layers(common, selected)
  maps, controls = [], {}
  random = np.random.default_rng(seed)
  for update in [update for update in common if update.layer in selected]:
    other = others[update.path]
    sizes = [(len(u.a), u.b.shape[1]) for u in (update, other)]
    if sizes[0] != sizes[1]:
      raise ValueError(
        f'{update.path}: the runs have different bases: the matrix is {sizes[0]} and {sizes[1]}'
      )
    one, two = directions(update, of), directions(other, of)
    entry = _entry(one, two) | {'path': update.path, 'layer': update.layer}
    maps.append(entry | {'matrix': update.matrix})
    size = (len(one), one.shape[1], two.shape[1])
    if size not in controls:
      controls[size] = _entry(
        subspace.random_directions(random, size[0], size[1]),
        subspace.random_directions(random, size[0], size[2]),
      )
  return {
    'middle': selected[len(selected) // 2] if layers else have[len(have) // 2],
    'spread': selected if layers else spread(have),
    'maps': maps,
    'control': list(controls.values()),
  }


def spread(layers: Sequence[int]) -> list[int]:
  """The first, one third, two thirds and last of the layers; fewer if there are not four."""
  last = len(layers) - 1
  return sorted({layers[round(last * part / 3)] for part in range(4)})


def _entry(one: Float[np.ndarray, 'd n1'], two: Float[np.ndarray, 'd n2']) -> Entry:
  phi = subspace.similarity(one, two)
  rank, other = phi.shape
  return {
    'dimension': len(one),
    'ranks': [rank, other],
    'top': phi[0, 0],
    'top_of_first_in_second': phi[0, -1],
    'whole': phi[-1, -1],
    'whole_by_chance': subspace.chance(rank, other, len(one)),
    'phi': phi,
  }
