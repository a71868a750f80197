"""Looped and scanned layers: one array a layer (`layers_0/...`), or one of all (`layers/...`).

What is saved is looped. Patterns that name layers are rewritten with the tree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lora_jax import tree

LOOPED, SCANNED = r'layers_\d+/', 'layers/'  # As a path has them, and as a pattern writes them.
NAMES_PATHS = ('targets', 'train', 'rank', 'alpha')  # Options of methods that hold patterns.


def is_scanned(params: tree.Params) -> bool:
  """Whether the layers of a parameter tree are stacked in one array."""
  return any(f'/{SCANNED}' in f'/{path}' for path in tree.paths(params))


def unstack(params: tree.Params) -> dict[str, Any]:
  """The looped tree: `encoder/layers/x` [L, ...] becomes `encoder/layers_0/x` [...] and so on."""
  leaves = {}
  for path, leaf in tree.flatten(params).items():
    if f'/{SCANNED}' not in f'/{path}':
      leaves[path] = leaf
      continue
    for i, part in enumerate(np.asarray(leaf)):
      leaves[re.sub(r'(^|/)layers/', rf'\1layers_{i}/', path)] = part
  return tree.unflatten(leaves)


def stack(params: tree.Params, num_layers: int) -> dict[str, Any]:
  """The scanned tree of a looped one.

  Raises:
    ValueError: naming the parameters that not all layers have, or not in one shape: a rank that
      differs by layer, or only the last layers trained.
  """
  leaves: dict[str, Any] = {}
  stacks: dict[str, dict[int, Any]] = {}
  for path, leaf in tree.flatten(params).items():
    if found := re.search(r'(^|/)layers_(\d+)/', path):
      name = re.sub(r'(^|/)layers_\d+/', r'\1layers/', path)
      leaves.setdefault(name)
      stacks.setdefault(name, {})[int(found[2])] = leaf
    else:
      leaves[path] = leaf
  problems = []
  for name, parts in stacks.items():
    shapes = {np.shape(part) for part in parts.values()}
    if set(parts) != set(range(num_layers)) or len(shapes) > 1:
      have = ', '.join(f'{i} {np.shape(parts[i])}' for i in sorted(parts))
      problems.append(f'{name}: layers {have}')
    else:
      leaves[name] = np.stack([np.asarray(parts[i]) for i in range(num_layers)])
  if problems:
    raise ValueError(
      f'scanned layers need each parameter in all {num_layers} layers and in one shape. Load the '
      'model looped (scan=False). Found:\n  ' + '\n  '.join(problems)
    )
  return tree.unflatten(leaves)


def looped_patterns(options: Mapping[str, Any]) -> dict[str, Any]:
  """A method's options with `layers/` in their patterns as `layers_\\d+/`."""
  return _rewritten(options, SCANNED, LOOPED)


def scanned_patterns(options: Mapping[str, Any]) -> dict[str, Any]:
  """The way back; a pattern of a single layer stays, and matches nothing there."""
  return _rewritten(options, LOOPED, SCANNED)


def _rewritten(options: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
  def rewrite(value: Any) -> Any:
    if isinstance(value, str):
      return value.replace(old, new)
    if isinstance(value, Mapping):
      return {rewrite(pattern): number for pattern, number in value.items()}
    return tuple(rewrite(item) for item in value) if isinstance(value, list | tuple) else value

  return {name: rewrite(value) if name in NAMES_PATHS else value for name, value in options.items()}
