"""One run: singular spectra, table 7, figure 8, and similarity between its layers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float

from lora_jax import errors, quantization, stacking, tree
from lora_jax.analysis import amplification, factors, pair, spectra, subspace
from lora_jax.analysis.pair import Entry
from lora_jax.analysis.subspace import Svd

TOP_SHARE = 0.1  # Figure 8 shows the top tenth of the directions of W.


def measure(
  found: Sequence[factors.Update],
  frozen: tree.Params | None = None,
  *,
  layers: Sequence[int] = (),
  matrices: Sequence[str] = (),
  of: str = 'a',
  seed: int = 0,
) -> dict[str, list[Entry]]:
  """Measurements of one run's updates and, with the base, of their relation to its weights.

  Args:
    found: the run's updates.
    frozen: the base's parameters, looped or scanned; None leaves table 7 and figure 8 out.
    layers: numbers from 0. Empty means all layers, and the middle one for figure 8.
    matrices: names of matrices; empty means all.
    of: whose directions figure 8 compares with those of W, one of `pair.OF`.
    seed: seed of the random controls.

  Returns:
    `spectra`, `layers` and, with a base, `table7` and `figure8`: lists of dicts, each with path,
    layer and matrix or, for `layers`, with matrix and side.

  Raises:
    ValueError: for layers or matrices that do not exist, for updates that are zero, and for a base
      that lacks the weights.
  """
  inside = factors.select(found, matrices, lambda u: u.layer is not None)
  factors.check_layers(inside, layers)
  selected = [update for update in inside if not layers or update.layer in layers]
  if not selected:
    raise ValueError(
      'no adapted matrix lies in a numbered layer '
      f'({stacking.looped_name(0)}, {stacking.looped_name(1)}, ...)'
    )
  svds = {update.path: factors.thin_svd(update) for update in selected}
  if zero := [path for path, svd in svds.items() if not len(svd.values)]:
    raise ValueError(f'the update is zero of {errors.listed(zero)}: was anything trained?')
  measured: dict[str, list[Entry]] = {
    'spectra': [_spectrum(update, svds[update.path].values) for update in selected],
    'layers': list(between_layers(selected, svds)),
  }
  if frozen is None:
    return measured
  numbers = sorted({update.layer for update in selected if update.layer is not None})
  figure8_layers = set(layers or [numbers[len(numbers) // 2]])
  random = np.random.default_rng(seed)
  measured |= {'table7': [], 'figure8': []}
  for update in selected:
    weight = kernel(frozen, update)
    inputs, values, outputs = np.linalg.svd(weight, full_matrices=False)
    row = amplification.measure(weight, svds[update.path], values, random)
    measured['table7'].append({**_name(update), 'scale': update.scale, **row._asdict()})
    if update.layer in figure8_layers:
      own = pair.directions(update, of)
      side = outputs.T if of == 'b' else inputs
      top = side[:, : max(round(TOP_SHARE * len(side)), own.shape[1])]
      other = subspace.random_directions(random, *own.shape)
      phi, control = subspace.similarity(top, own), subspace.similarity(top, other)
      entry = {'dimension': len(own), 'ranks': list(phi.shape), 'phi': phi, 'control': control}
      measured['figure8'].append({**_name(update), **entry})
  return measured


def kernel(frozen: tree.Params, update: factors.Update) -> Float[np.ndarray, 'd k']:
  """The base's kernel [d, k] under an update, float64.

  Raises:
    ValueError: if there is none, or one of another shape.
  """
  leaves = tree.flatten(frozen)
  weight = leaves.get(f'{update.path}/kernel')
  stacked = leaves.get(f'{stacking.scanned_path(update.path)}/kernel')
  if weight is None and stacked is not None:
    weight = jax.tree.map(operator.itemgetter(update.layer), stacked)
  expected = (len(update.a), update.b.shape[1])
  if weight is None or weight.shape != expected:
    shape = 'missing' if weight is None else weight.shape
    raise ValueError(f'{update.path}/kernel of the base: expected {expected}, found {shape}')
  coded = isinstance(weight, quantization.Kernel)
  return np.asarray(weight.astype(np.float32) if coded else weight).astype(np.float64)


def between_layers(found: Sequence[factors.Update], svds: Mapping[str, Svd]) -> Iterator[Entry]:
  """For each matrix and side, phi between all pairs of layers: of the top and of all directions.

  Sides whose size differs between layers are left out: they cannot be compared.
  """
  for matrix in dict.fromkeys(update.matrix for update in found):
    same = [update for update in found if update.matrix == matrix]
    own = [svds[update.path] for update in same]
    sides = {'input': [svd.inputs for svd in own], 'output': [svd.outputs for svd in own]}
    for name, bases in sides.items():
      if len(same) < 2 or len({len(basis) for basis in bases}) > 1:
        continue
      maps = [[subspace.similarity(one, two) for two in bases] for one in bases]
      dimension, rank = len(bases[0]), max(basis.shape[1] for basis in bases)
      yield {
        'matrix': matrix,
        'side': name,
        'layers': [update.layer for update in same],
        'dimension': dimension,
        'top': [[phi[0, 0] for phi in row] for row in maps],
        'top_by_chance': subspace.chance(1, 1, dimension),
        'whole': [[phi[-1, -1] for phi in row] for row in maps],
        'whole_by_chance': subspace.chance(rank, rank, dimension),
      }


def _spectrum(update: factors.Update, values: Float[np.ndarray, ' n']) -> Entry:
  return {
    **_name(update),
    'rank': update.rank,
    'scale': update.scale,
    'norm': float(np.linalg.norm(values)),
    'effective_rank': spectra.effective_rank(values),
    'stable_rank': spectra.stable_rank(values),
    'singular_values': values,
  }


def _name(update: factors.Update) -> Entry:
  return {'path': update.path, 'layer': update.layer, 'matrix': update.matrix}
