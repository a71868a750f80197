"""One run: singular spectra, table 7, figure 8, and similarity between its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lora_jax import tree
from lora_jax.analysis import amplification, factors, pair, spectra, subspace

TOP_SHARE = 0.1  # Of the directions of W, figure 8 shows the top tenth.
Svd = tuple[np.ndarray, np.ndarray, np.ndarray]


def measure(
  found: Sequence[factors.Update],
  frozen: tree.Params | None = None,
  *,
  layers: Sequence[int] = (),
  matrices: Sequence[str] = (),
  of: str = 'a',
  seed: int = 0,
) -> dict[str, Any]:
  """All that one run's updates say by themselves and, where the base is given, about it.

  Args:
    found: the run's updates.
    frozen: the base's parameters, looped or scanned; None leaves table 7 and figure 8 out.
    layers: numbers from 0; none is all, and the middle one for figure 8.
    matrices: names of matrices; none is all.
    of: whose directions figure 8 compares with those of W, one of `pair.OF`.
    seed: of the random controls.

  Returns:
    `spectra`, `layers` and, with a base, `table7` and `figure8`: lists of dicts, each with path,
    layer and matrix or, for `layers`, with matrix and side.

  Raises:
    ValueError: for layers or matrices that do not exist, updates that are zero, and a base that
      has not the weights.
  """
  chosen = factors.select(found, matrices, lambda u: u.layer is not None)
  factors.check_layers(chosen, layers)
  chosen = [update for update in chosen if not layers or update.layer in layers]
  if not chosen:
    raise ValueError('none of the adapted matrices lies in a numbered layer (layers_N)')
  svds = {update.path: factors.thin_svd(update) for update in chosen}
  if zero := [path for path, svd in svds.items() if not len(svd[1])]:
    raise ValueError(
      f'the update of {zero[0]}, and of {len(zero) - 1} others, is zero: was anything trained?'
    )
  measured = {
    'spectra': [_spectrum(update, svds[update.path][1]) for update in chosen],
    'layers': list(between_layers(chosen, svds)),
  }
  if frozen is None:
    return measured
  numbers = sorted({update.layer for update in chosen})
  shown = set(layers or [numbers[len(numbers) // 2]])
  random = np.random.default_rng(seed)
  measured |= {'table7': [], 'figure8': []}
  for update in chosen:
    weight = kernel(frozen, update)
    inputs, values, outputs = np.linalg.svd(weight, full_matrices=False)
    row = amplification.measure(weight, svds[update.path], values, random)
    measured['table7'].append({**_name(update), 'scale': update.scale, **row._asdict()})
    if update.layer in shown:
      own = pair.directions(update, of)
      side = outputs.T if of == 'b' else inputs
      top = side[:, : max(round(TOP_SHARE * len(side)), own.shape[1])]
      drawn = subspace.random_directions(random, *own.shape)
      phi, control = subspace.similarity(top, own), subspace.similarity(top, drawn)
      entry = {'dimension': len(own), 'ranks': list(phi.shape), 'phi': phi, 'control': control}
      measured['figure8'].append({**_name(update), **entry})
  return measured


def kernel(frozen: tree.Params, update: factors.Update) -> np.ndarray:
  """The base's kernel [d, k] under an update, float64.

  Raises:
    ValueError: if there is none, or one of another shape.
  """
  leaves = tree.flatten(frozen)
  stacked = update.path.replace(f'layers_{update.layer}/', 'layers/')
  weight = leaves.get(f'{update.path}/kernel')
  if weight is None and f'{stacked}/kernel' in leaves:
    weight = leaves[f'{stacked}/kernel'][update.layer]
  expected = (len(update.a), update.b.shape[1])
  if weight is None or weight.shape != expected:
    shape = 'missing' if weight is None else weight.shape
    raise ValueError(f'{update.path}/kernel of the base: expected {expected}, found {shape}')
  return np.asarray(weight).astype(np.float64)


def between_layers(
  found: Sequence[factors.Update], svds: Mapping[str, Svd]
) -> Iterator[dict[str, Any]]:
  """For each matrix and side, phi of every two layers' updates: of top 1, and of all directions.

  Sides of different sizes in different layers are left out: nothing compares them.
  """
  for matrix in dict.fromkeys(update.matrix for update in found):
    chosen = [update for update in found if update.matrix == matrix]
    for side, name in ((0, 'input'), (2, 'output')):
      bases = [svds[update.path][side] for update in chosen]
      if len(chosen) < 2 or len({len(basis) for basis in bases}) > 1:
        continue
      maps = [[subspace.similarity(one, two) for two in bases] for one in bases]
      dimension, rank = len(bases[0]), max(basis.shape[1] for basis in bases)
      yield {
        'matrix': matrix,
        'side': name,
        'layers': [update.layer for update in chosen],
        'dimension': dimension,
        'top': [[phi[0, 0] for phi in row] for row in maps],
        'top_by_chance': subspace.chance(1, 1, dimension),
        'whole': [[phi[-1, -1] for phi in row] for row in maps],
        'whole_by_chance': subspace.chance(rank, rank, dimension),
      }


def _spectrum(update: factors.Update, values: np.ndarray) -> dict[str, Any]:
  return {
    **_name(update),
    'rank': update.rank,
    'scale': update.scale,
    'norm': float(np.linalg.norm(values)),
    'effective_rank': spectra.effective_rank(values),
    'stable_rank': spectra.stable_rank(values),
    'singular_values': values,
  }


def _name(update: factors.Update) -> dict[str, Any]:
  return {'path': update.path, 'layer': update.layer, 'matrix': update.matrix}
