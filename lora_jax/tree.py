"""Parameter trees named by path: `encoder/layers_0/attention/query/kernel`.

A parameter tree is a nested dict of arrays, as `model.init(...)['params']` gives it. Everything
that is trained, saved, swept or served is such a tree, so these few functions are all the
machinery there is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from lora_jax import errors

Params = Mapping[str, Any]  # Nested: a name -> an array, the shape of one, or Params.
Tree = dict[str, Any]  # Params that are dicts throughout.
Leaves = dict[str, Any]  # Arrays, or their shapes, by path.


def flatten(tree: Params) -> Leaves:
  """Leaves by path, in the tree's own order. An empty dict inside the tree has no leaves."""
  return traverse_util.flatten_dict(_plain(tree), sep='/')


def unflatten(leaves: Mapping[str, Any]) -> Tree:
  """The nested dict of `flatten`."""
  return traverse_util.unflatten_dict(dict(leaves), sep='/')


def paths(tree: Params) -> list[str]:
  """Paths of all leaves, in the tree's own order."""
  return list(flatten(tree))


def join(*trees: Params) -> Tree:
  """One tree of the leaves of all, which must not overlap.

  `join(frozen, trainable)` is the tree that the model sees inside `bind`; plain `model.apply` would
  ignore what a method added to it. No array is copied.

  Raises:
    ValueError: if two trees hold the same path, or one holds a leaf where another has a subtree.
  """
  joined: Tree = {}
  for tree in trees:
    _join_into(joined, tree, '')
  return joined


def split(tree: Params, trainable: str | Sequence[str]) -> tuple[Tree, Tree]:
  """Splits a tree into (frozen, trainable): trainable are the leaves whose path a pattern matches.

  Args:
    tree: nested dict.
    trainable: regular expressions matched in full against leaf paths (`classifier/.*`).

  Raises:
    ValueError: naming each pattern that matches no leaf, with the paths nearest to it.
  """
  leaves = flatten(tree)
  matched = match(trainable, leaves)
  chosen = {path for found in matched.values() for path in found}
  return (
    unflatten({path: leaf for path, leaf in leaves.items() if path not in chosen}),
    unflatten({path: leaf for path, leaf in leaves.items() if path in chosen}),
  )


def match(
  patterns: str | Sequence[str], names: Iterable[str], what: str = 'parameter'
) -> dict[str, list[str]]:
  """Names that each pattern matches in full; every pattern has to match at least one.

  Raises:
    ValueError: naming each pattern that is not a regular expression or matches nothing, with the
      nearest names and all names, as patterns that match them.
  """
  names = list(names)
  matched, problems = {}, []
  for pattern in as_patterns(patterns):
    try:
      found = [name for name in names if re.fullmatch(pattern, name)]
    except re.error as error:
      problems.append(f'{pattern!r} is not a regular expression: {error}')
      continue
    if not found:
      # Names that differ by a number only, as those of layers, are written once: as a pattern.
      known = dict.fromkeys(re.sub(r'_\d+', '_[0-9]+', name) for name in names)
      near = errors.nearest(pattern, known, cutoff=0.3)
      problems.append(f'{pattern!r} matches no {what} (a pattern matches a whole path). {near}')
    matched[pattern] = found
  if problems:
    raise ValueError('\n'.join(problems))
  return matched


def as_patterns(patterns: str | Iterable[str]) -> tuple[str, ...]:
  """A single pattern, or several, as a tuple."""
  return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def count(tree: Params) -> int:
  """Number of parameters: the sum of the leaves' sizes (arrays or shapes)."""
  return sum(math.prod(leaf.shape) for leaf in flatten(tree).values())


def nbytes(tree: Params) -> int:
  """Bytes that the leaves take (arrays or shapes)."""
  return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(_plain(tree)))


def cast(tree: Params, dtype: jax.typing.DTypeLike) -> Tree:
  """The tree with its floating-point leaves as `dtype`; integer leaves stay."""
  return jax.tree.map(
    lambda x: x.astype(dtype) if jax.numpy.issubdtype(x.dtype, np.floating) else x, _plain(tree)
  )


def _plain(tree: Params) -> Tree:
  """Nested dicts for any nested mapping (FrozenDict among them)."""
  return {
    str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in tree.items()
  }


def _join_into(joined: Tree, tree: Params, prefix: str) -> None:
  for key, value in tree.items():
    path = f'{prefix}{key}'
    if isinstance(value, Mapping):
      inner = joined.setdefault(key, {})
      if not isinstance(inner, dict):
        raise ValueError(f'{path!r} is a leaf in one tree and a subtree in another')
      _join_into(inner, value, f'{path}/')
    elif key in joined:
      raise ValueError(
        f'{path!r} is in both trees. Join disjoint trees: the frozen and the trainable part of '
        'one split, not a part and the whole.'
      )
    else:
      joined[key] = value
