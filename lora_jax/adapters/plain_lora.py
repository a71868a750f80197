"""Any update of matrices as a plain LoRA of a given rank: the nearest one, by singular values.

    found = nearest(adapter, 8, params)   # found.adapter, found.error, found.errors

Tools that serve LoRA compute s x a b alone: no DoRA, no rank of its own in each module. By the
theorem of Eckart and Young the largest singular values of an update make the nearest update of a
rank in the Frobenius norm; those that are left out are the error.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from lora_jax import methods, stacking, tree
from lora_jax.adapters.adapter import Adapter
from lora_jax.adapters.parts import BaseLayout, Pair, Parts, base_layout, from_parts, to_parts
from lora_jax.errors import listed

Update = np.ndarray | tuple[np.ndarray, np.ndarray]  # [in, out], or [in, R] and [R, out].


class Nearest(NamedTuple):
  """A plain LoRA, and what it misses of the update that it stands for.

  Attributes:
    adapter: of the method `lora`, one rank in all modules, alpha equal to it: the scale is 1.
    errors: |update - a b| / |update| of each adapted matrix by its module's path, in the Frobenius
      norm and before the factors are rounded to float32.
    error: the same over all matrices together.
  """

  adapter: Adapter
  errors: dict[str, float]
  error: float


def nearest(adapter: Adapter, rank: int, params: tree.Params | None = None) -> Nearest:
  """The plain LoRA of this rank that is nearest to an adapter's update. Its head stays as it is.

  A product of factors (LoRA, LoRA-FA, PiSSA, OLoRA, VeRA, at any scale) is never multiplied out. Of
  all other methods (DoRA, matrices that are trained whole) the update is the merged model less the
  base, and each matrix is decomposed: a minute or so for one of 4096 x 4096.

  Args:
    adapter: an adapter of any method that can be merged.
    rank: r. Factors of a module whose update has a smaller rank end in zeros.
    params: the base's parameters, looped or scanned; only a product of factors needs none.

  Raises:
    ValueError: for a rank below 1, a method that cannot be merged, a base that is missing, and
      trained parameters that are neither matrices nor of the head, by name.
  """
  if rank < 1:
    raise ValueError(f'rank={rank}: a rank is a whole number from 1 up')
  method = adapter.method
  if method['name'] in ('lora', 'vera') and not method.get('dora'):
    parts, base = to_parts(adapter, 'A plain LoRA')
    leaves = parts.leaves
    updates: dict[str, Update] = {
      path: (pair.scale * pair.a.astype(np.float64), pair.b) for path, pair in parts.pairs.items()
    }
  elif params is None:
    name = 'lora with dora=True' if method.get('dora') else method['name']
    raise ValueError(
      f'the update of {name} is not a product of factors alone: a plain LoRA of it needs the base. '
      'Name its folder (--base=FOLDER).'
    )
  else:
    base = base_layout(adapter.config, adapter.task, adapter.num_labels)
    updates, leaves = _differences(adapter, params, base)
  if other := [path for path in leaves if not _is_in_head(path, base)]:
    raise ValueError(
      f'a plain LoRA has factors of matrices and a head; trained besides: {listed(other)}. Export '
      'a merged model, or train without them.'
    )
  pairs, squares = {}, {}
  for path, update in updates.items():
    pairs[path], squares[path] = _truncated(update, rank)
  total = np.sum(list(squares.values()), axis=0)
  found = from_parts(Parts(pairs, leaves), base, task=adapter.task, name=adapter.base)
  found = found._replace(fingerprint=adapter.fingerprint, label_names=adapter.label_names)
  return Nearest(found, {path: _ratio(*x) for path, x in squares.items()}, _ratio(*total))


def _differences(
  adapter: Adapter, params: tree.Params, base: BaseLayout
) -> tuple[dict[str, Update], dict[str, np.ndarray]]:
  """The update of each matrix by its module, and the other leaves that changed, or of the head."""
  trained = tree.flatten(adapter.trainable)
  before = tree.flatten(stacking.unstack(params))
  before = {path: np.asarray(x, np.float32) for path, x in before.items()}
  frozen = tree.unflatten({path: x for path, x in before.items() if path not in trained})
  merged = methods.make(**adapter.method).merge(frozen, adapter.trainable)
  modules = {path for paths in base.modules.values() for path in paths}
  updates: dict[str, Update] = {}
  leaves = {}
  for path, leaf in tree.flatten(merged).items():
    x, module = np.asarray(leaf, np.float32), path.rpartition('/')[0]
    if path in trained and _is_in_head(path, base):
      leaves[path] = x
    elif np.array_equal(x, before[path]):
      continue
    elif module in modules and path.endswith(('/kernel', '/embedding')):
      updates[module] = x.astype(np.float64) - before[path]
    else:
      leaves[path] = x
  return updates, leaves


def _is_in_head(path: str, base: BaseLayout) -> bool:
  return any(re.fullmatch(pattern, path) for pattern in base.model.head)


def _truncated(update: Update, rank: int) -> tuple[Pair, tuple[float, float]]:
  """The pair of a rank nearest to an update, and the squared norms of the rest and of the whole."""
  if isinstance(update, tuple):  # Only the small sides of the factors are decomposed.
    (qa, ra), (qb, rb) = (np.linalg.qr(x) for x in (update[0], update[1].T))
    u, values, v = np.linalg.svd(ra @ rb.T, full_matrices=False)
    u, v = qa @ u, v @ qb.T
  else:
    u, values, v = np.linalg.svd(update, full_matrices=False)
  roots = np.sqrt(values[:rank])
  missing = (0, rank - len(roots))
  a = np.pad(u[:, :rank] * roots, ((0, 0), missing)).astype(np.float32)
  b = np.pad(roots[:, None] * v[:rank], (missing, (0, 0))).astype(np.float32)
  squares = values**2
  return Pair(a, b, float(rank)), (float(squares[rank:].sum()), float(squares.sum()))


def _ratio(rest: float, whole: float) -> float:
  return math.sqrt(rest / whole) if whole else 0.0
