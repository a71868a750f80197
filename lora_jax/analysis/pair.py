"""Two runs on one base: figures 3, 4, 6 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lora_jax.analysis import factors, subspace

OF = ('a', 'b', 'update')


def directions(update: factors.Update, of: str) -> np.ndarray:
  """Directions that an update works in, by falling singular value.

  Args:
    of: `a`: [d, n] in the input, of the factor A, as in the paper's figures. `update`: the same
      space, ordered by what reaches the output. `b`: [k, n] in the output, of the factor B, which
      starts at zero, so that all of it was learned; A holds much of its random start for long.

  Raises:
    ValueError: if what is asked for is zero, naming the matrix.
  """
  if of not in OF:
    raise ValueError(f'of={of!r}: choose one of {", ".join(OF)}')
  if not ((of == 'b' or update.a.any()) and (of == 'a' or update.b.any())):
    raise ValueError(f'{update.path}: {of} is zero, so it has no directions: was anything trained?')
  if of == 'update':
    return factors.thin_svd(update)[0]
  return subspace.directions(update.a if of == 'a' else update.b.T)


def compare(
  first: Sequence[factors.Update],
  second: Sequence[factors.Update],
  *,
  layers: Sequence[int] = (),
  matrices: Sequence[str] = (),
  of: str = 'a',
  seed: int = 0,
) -> dict[str, Any]:
  """Subspace similarity of the updates that two runs have in common.

  Args:
    first: updates of the run that is indexed by i.
    second: of the one indexed by j.
    layers: numbers from 0; none is first, one third, two thirds and last, and the middle one, as
      the paper's 1, 32, 64, 96 and 48 of 96.
    matrices: names of matrices; none is all that both adapted.
    of: one of `OF`.
    seed: of the two random Gaussians that are the control.

  Returns:
    `middle`: the layer of figures 3 and 4; `spread`: those of 6 and 7; `maps`, each with path,
    layer, matrix, dimension, ranks [r1, r2] and phi [r1][r2]; `control`, one for each size.

  Raises:
    ValueError: if the runs have no matrix in common, one that was asked for is missing in either,
      or it has different shapes.
  """
  for found in (first, second):
    factors.select(found, matrices)
    factors.check_layers(found, layers)
  others = {update.path: update for update in second}
  common = factors.select(first, matrices, lambda update: update.path in others)
  have = sorted({update.layer for update in common if update.layer is not None})
  if not have:
    raise ValueError(
      'the runs adapted no matrix in common: '
      + ' against '.join(str(sorted({u.matrix for u in found})) for found in (first, second))
    )
  chosen = sorted(layers) or sorted({*spread(have), have[len(have) // 2]})
  factors.check_layers(common, chosen)
  maps, controls = [], {}
  random = np.random.default_rng(seed)
  for update in [update for update in common if update.layer in chosen]:
    other = others[update.path]
    sizes = [(len(u.a), u.b.shape[1]) for u in (update, other)]
    if sizes[0] != sizes[1]:
      raise ValueError(
        f'{update.path}: the runs are on different bases, the matrix is {sizes[0]} and {sizes[1]}'
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
    'middle': chosen[len(chosen) // 2] if layers else have[len(have) // 2],
    'spread': chosen if layers else spread(have),
    'maps': maps,
    'control': list(controls.values()),
  }


def spread(layers: Sequence[int]) -> list[int]:
  """First, one third, two thirds and last of the layers; fewer where there are no four."""
  last = len(layers) - 1
  return sorted({layers[round(last * part / 3)] for part in range(4)})


def _entry(one: np.ndarray, two: np.ndarray) -> dict[str, Any]:
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
