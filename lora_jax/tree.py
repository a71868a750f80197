"""Parameter trees named by path: `encoder/layers_0/attention/query/kernel`.

A parameter tree is a nested dict of arrays, as `model.init(...)['params']` gives it. Everything
that is trained, saved, swept or served is such a tree, so these few functions are all the
machinery there is.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

Params = Mapping[str, Any]  # nested: str -> array or Params


def flatten(tree: Params) -> dict[str, Any]:
  """Leaves by path, in the tree's own order. An empty dict inside the tree has no leaves."""
  return traverse_util.flatten_dict(_plain(tree), sep='/')


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """The nested dict of `flatten`."""
  return traverse_util.unflatten_dict(dict(leaves), sep='/')


def paths(tree: Params) -> list[str]:
  """Paths of all leaves, in the tree's own order."""
  return list(flatten(tree))


def join(*trees: Params) -> dict[str, Any]:
  """One tree of the leaves of all, which must not overlap.

  `join(frozen, trainable)` is the tree that `model.apply` sees. No array is copied.

  Raises:
    ValueError: if two trees hold the same path, or one holds a leaf where another has a subtree.
  """
  joined: dict[str, Any] = {}
  for tree in trees:
    _join_into(joined, tree, '')
  return joined


def split(tree: Params, trainable: str | Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
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
    ValueError: naming each pattern that is no regular expression or matches nothing, and the
      candidates.
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
      problems.append(f'{pattern!r} matches no {what}. {_candidates(pattern, names)}')
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
  return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in flatten(tree).values())


def cast(tree: Params, dtype: Any) -> dict[str, Any]:
  """The tree with its floating-point leaves as `dtype`; integer leaves stay."""
  return jax.tree.map(
    lambda x: x.astype(dtype) if jax.numpy.issubdtype(x.dtype, np.floating) else x, _plain(tree)
  )


def _plain(tree: Params) -> dict[str, Any]:
  """Nested dicts for any nested mapping (FrozenDict among them)."""
  return {
    str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in tree.items()
  }


def _join_into(joined: dict[str, Any], tree: Params, prefix: str) -> None:
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


def _candidates(pattern: str, names: Sequence[str], limit: int = 12) -> str:
  """The names nearest to a pattern, layers that differ only by number written once."""
  general = list(dict.fromkeys(re.sub(r'_\d+', '_*', name) for name in names))
  near = difflib.get_close_matches(pattern, general, n=limit, cutoff=0.3) or general[:limit]
  more = f' and {len(general) - len(near)} more' if len(general) > len(near) else ''
  return f'Candidates (patterns match a whole path): {", ".join(near) or "none"}{more}.'
