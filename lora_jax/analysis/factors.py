"""The low-rank updates that a run trained, one for each adapted matrix and layer.

The paper writes W x with W [k, d] (outputs, inputs); Flax writes x @ kernel with kernel = W^T
[d, k]. So `lora_a` [d, r] is the paper's A transposed, and the right-singular vectors of A, which
its figures compare, are the left-singular vectors of `lora_a`: directions in the layer's input.
Here both are called by what they are: the `input` side [d, n] and the `output` side [k, n].
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_jax import methods, tree
from lora_jax.analysis import subspace

LAYER = r'(?:^|.*/)layers_(\d+)/'


class Update(NamedTuple):
  """The update of one matrix: scale * a @ b, added to a kernel [d, k].

  Attributes:
    path: of the module, `encoder/layers_3/attention/query`.
    layer: its number, from 0, or None outside the layers.
    matrix: the last part of the path, `query`.
    a: [d, r], float64.
    b: [r, k], float64.
    scale: alpha / r (or alpha / sqrt(r)), as the method of the run has it.
  """

  path: str
  layer: int | None
  matrix: str
  a: np.ndarray
  b: np.ndarray
  scale: float

  @property
  def rank(self) -> int:
    return self.a.shape[1]


def updates(trainable: tree.Params, options: Mapping[str, Any]) -> list[Update]:
  """The updates in what was trained, by layer; layers that were scanned come one by one.

  Args:
    trainable: nested dict with `lora_a`, `lora_b` beside each other.
    options: the method's name and options, as `methods.make` takes them.

  Raises:
    ValueError: if there are no factors, or some are not of matrices or not finite.
  """
  leaves = tree.flatten(trainable)
  sites = [path.removesuffix('/lora_a') for path in leaves if path.endswith('/lora_a')]
  if not sites:
    raise ValueError(
      f'method {options.get("name")!r} trained no low-rank factors (lora_a, lora_b), and the '
      'analysis is of those: give a run of method lora. '
      f'Trained were {", ".join(list(leaves)[:4]) or "no parameters"}.'
    )
  known = inspect.signature(methods.lora).parameters
  method = methods.lora(**{key: value for key, value in options.items() if key in known})
  found = []
  for site in sites:
    a, b = (np.asarray(leaves[f'{site}/{name}'], np.float64) for name in ('lora_a', 'lora_b'))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
      raise ValueError(f'{site}: the factors hold values that are not finite; the run diverged')
    if not a.shape[-1]:
      raise ValueError(f'{site}: factors {a.shape} and {b.shape} are of rank 0')
    scale = _scale(method, site, a.shape[-1])
    stacked = f'/{site}/'.find('/layers/') >= 0
    if a.ndim != 2 + stacked or b.ndim != 2 + stacked:
      raise ValueError(f'{site}: factors {a.shape} and {b.shape} are not those of a matrix')
    if not stacked:
      found.append(_update(site, a, b, scale))
    for i in range(len(a) if stacked else 0):
      found.append(_update(looped(site, i), a[i], b[i], scale))
  return sorted(found, key=lambda update: (update.layer is None, update.layer or 0))


def looped(path: str, layer: int) -> str:
  """The path that a layer has in the looped model: `layers/x` becomes `layers_3/x`."""
  return re.sub(r'(^|/)layers/', rf'\1layers_{layer}/', path)


def thin_svd(update: Update) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Singular value decomposition of an update, from r x r matrices: no [d, k] one is made.

  Returns:
    input side [d, n], singular values [n] falling, output side [k, n], where n is the numerical
    rank; n = 0 for an update that is zero. The scale is in the singular values.
  """
  q_a, r_a = np.linalg.qr(update.a)
  q_b, r_b = np.linalg.qr(update.b.T)
  u, s, vt = np.linalg.svd(update.scale * (r_a @ r_b.T))
  n = subspace.numerical_rank(s, max(len(update.a), update.b.shape[1]))
  return q_a @ u[:, :n], s[:n], q_b @ vt[:n].T


def check_layers(found: Sequence[Update], layers: Sequence[int]) -> None:
  """Raises a ValueError naming each layer that has no update, and those that have one."""
  have = sorted({update.layer for update in found if update.layer is not None})
  if missing := [layer for layer in layers if layer not in have]:
    raise ValueError(
      f'no factors in layers {missing}; layers are counted from 0, and the run adapted '
      f'{", ".join(map(str, have)) or "none"}'
    )


def select(
  found: Iterable[Update], matrices: Sequence[str], keep: Callable[[Update], bool] = lambda _: True
) -> list[Update]:
  """The updates of some matrices by name (all for none).

  Raises:
    ValueError: for a name that no matrix has, with those that there are.
  """
  found = list(found)
  names = list(dict.fromkeys(update.matrix for update in found))
  tree.match([re.escape(name) for name in matrices], names, 'adapted matrix')
  return [u for u in found if (not matrices or u.matrix in matrices) and keep(u)]


def _update(path: str, a: np.ndarray, b: np.ndarray, scale: float) -> Update:
  layer = re.match(LAYER, path)
  name = path.rpartition('/')[2]
  return Update(path, int(layer[1]) if layer else None, name, a, b, scale)


def _scale(method: methods.Method, path: str, rank: int) -> float:
  """The factor that the method itself puts before a @ b: what a product of 1 adds to a weight."""
  a, b = np.eye(1, rank, dtype=np.float32), np.eye(rank, 1, dtype=np.float32)
  weight = tree.unflatten({f'{path}/kernel': np.zeros((1, 1), np.float32)})
  merged = method.merge(weight, tree.unflatten({f'{path}/lora_a': a, f'{path}/lora_b': b}))
  return float(tree.flatten(merged)[f'{path}/kernel'][0, 0])
