"""The low-rank updates that a run trained, one for each adapted matrix and layer.

The paper writes W x with W [k, d] (outputs, inputs); Flax writes x @ kernel with kernel = W^T
[d, k]. So `lora_a` [d, r] is the paper's A transposed, and the right-singular vectors of A, which
its figures compare, are the left-singular vectors of `lora_a`: directions in the layer's input.
This package calls the two sides `input` [d, n] and `output` [k, n].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from lora_jax import stacking, tree
from lora_jax.analysis import subspace
from lora_jax.analysis.subspace import Svd
from lora_jax.errors import listed
from lora_jax.methods.lora import FACTORS, MAGNITUDE, START, rule, scale


class Update(NamedTuple):
  """The update of one matrix: scale * a @ b, added to a kernel [d, k].

  Attributes:
    path: the module's path in the looped model.
    layer: the number of its layer, from 0; None outside of the layers.
    matrix: the last part of the path, `query` for example.
    a: [d, r], float64.
    b: [r, k], float64.
    scale: alpha / r or alpha / sqrt(r), according to the run's method.
  """

  path: str
  layer: int | None
  matrix: str
  a: Float[np.ndarray, 'd r']
  b: Float[np.ndarray, 'r k']
  scale: float

  @property
  def rank(self) -> int:
    return self.a.shape[1]


def updates(trainable: tree.Params, options: Mapping[str, Any]) -> list[Update]:
  """The updates in trained parameters, by layer; scanned layers are unstacked.

  Args:
    trainable: nested dict with `lora_a`, `lora_b` beside each other.
    options: the method's name and options, as `methods.make` takes them.

  Raises:
    ValueError: if there are no factors, or if some are not finite or not those of matrices.
  """
  leaves = tree.flatten(stacking.unstack(trainable))
  first = FACTORS[0]
  sites = [path.removesuffix(f'/{first}') for path in leaves if path.endswith(f'/{first}')]
  if not sites:
    raise ValueError(
      f'method {options.get("name")!r} trained no low-rank factors ({", ".join(FACTORS)}), which '
      'the analysis needs: give a run of method lora. '
      f'It trained {listed(list(leaves), limit=4) or "no parameters"}.'
    )
  if more := sorted({path.rpartition('/')[2] for path in leaves} & {MAGNITUDE, *START}):
    raise ValueError(
      f'the run trained {", ".join(more)} beside its factors (DoRA, PiSSA or OLoRA): its update is '
      'not a product of the two, which the analysis needs. Give a run of plain LoRA.'
    )
  options = stacking.looped_patterns(options)
  found = []
  for site in sites:
    a, b = (np.asarray(leaves[f'{site}/{name}'], np.float64) for name in FACTORS)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
      raise ValueError(f'{site}: the factors hold values that are not finite; the run diverged')
    if not a.shape[-1]:
      raise ValueError(f'{site}: factors {a.shape} and {b.shape} are of rank 0')
    if a.ndim != 2 or b.ndim != 2:
      raise ValueError(f'{site}: factors {a.shape} and {b.shape} are not those of a matrix')
    alpha = rule('alpha', options['alpha'], site)
    factor = scale(alpha, a.shape[-1], options.get('rslora', False))
    name = site.rpartition('/')[2]
    found.append(Update(site, stacking.layer_index(site), name, a, b, factor))
  return sorted(found, key=lambda update: (update.layer is None, update.layer or 0))


def thin_svd(update: Update) -> Svd:
  """Singular value decomposition of an update, from r x r matrices: no [d, k] matrix is made.

  It has as many directions as the numerical rank, none for an update that is zero. The singular
  values contain the scale.
  """
  q_a, r_a = np.linalg.qr(update.a)
  q_b, r_b = np.linalg.qr(update.b.T)
  u, s, vt = np.linalg.svd(update.scale * (r_a @ r_b.T))
  n = subspace.numerical_rank(s, max(len(update.a), update.b.shape[1]))
  return Svd(q_a @ u[:, :n], s[:n], q_b @ vt[:n].T)


def check_layers(found: Sequence[Update], layers: Sequence[int]) -> None:
  """Raises a ValueError naming each layer that has no update, and those that have one."""
  have = sorted({update.layer for update in found if update.layer is not None})
  if missing := [layer for layer in layers if layer not in have]:
    raise ValueError(
      f'no factors in layers {missing}. Layers are counted from 0; the run adapted '
      f'{listed(have, limit=100) or "none"}.'
    )


def select(
  found: Iterable[Update], matrices: Sequence[str], keep: Callable[[Update], bool] = lambda _: True
) -> list[Update]:
  """The updates of the matrices with these names, of all if there are no names.

  Raises:
    ValueError: for a name that no matrix has, with the existing names.
  """
  found = list(found)
  names = list(dict.fromkeys(update.matrix for update in found))
  tree.match([re.escape(name) for name in matrices], names, 'adapted matrix')
  return [u for u in found if (not matrices or u.matrix in matrices) and keep(u)]
