"""How a model's layers are named and stacked: the only module that parses their names.

A looped model has a subtree for each layer: `encoder/layers_0/...`, `encoder/layers_1/...`. A
scanned model has one subtree, `encoder/layers/...`, whose arrays hold all layers along axis 0. What
is saved is looped. Patterns that name layers are rewritten together with the tree.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lora_jax import tree

SCANNED = 'layers'  # The module that holds all layers of a scanned model.
LAYER = r'(.*/)?layers(_\d+)?'  # A pattern of the layers themselves, looped or scanned.
PATTERN_OPTIONS = ('targets', 'train', 'rank', 'alpha')  # Options of methods that hold patterns.

# A path's part that is a layer. Patterns write the same parts as the two strings below.
_LOOPED_PART = re.compile(r'(?<![^/])layers_(\d+)(?![^/])')
_SCANNED_PART = re.compile(r'(?<![^/])layers(?![^/])')
_LOOPED_PATTERN, _SCANNED_PATTERN = r'layers_\d+/', 'layers/'


def looped_name(index: int) -> str:
  """The name of one layer's module in a looped model."""
  return f'{SCANNED}_{index}'


def leaf_pattern(index: int | None = None) -> str:
  """A pattern of the leaves of one layer of a looped model; of any layer for None."""
  number = r'\d+' if index is None else str(index)
  return rf'(.*/)?layers_{number}/.*'


def layer_index(path: str) -> int | None:
  """The number of the layer that a path lies in; None outside the layers of a looped model."""
  found = _LOOPED_PART.search(path)
  return int(found[1]) if found else None


def path_in_layer(path: str) -> str:
  """The part of a path below its layer (`attention/query`); the whole path outside of layers."""
  found = _LOOPED_PART.search(path)
  return path[found.end() + 1 :] if found else path


def generalize(path: str) -> str:
  """A path with `*` for the number of its layer: `encoder/layers_*/attention/query`."""
  return _LOOPED_PART.sub('layers_*', path)


def scanned_path(path: str) -> str:
  """The path in the scanned model: `layers_3/x` becomes `layers/x`."""
  return _LOOPED_PART.sub(SCANNED, path)


def looped_path(path: str, index: int) -> str:
  """The path of one layer in the looped model: `layers/x` becomes `layers_3/x`."""
  return _SCANNED_PART.sub(looped_name(index), path)


def looped_paths(path: str, num_layers: int) -> list[tuple[str, int | None]]:
  """The looped paths that a path stands for, each with its index in the stack (None: no stack)."""
  if not is_scanned_path(path):
    return [(path, None)]
  return [(looped_path(path, index), index) for index in range(num_layers)]


def is_scanned_path(path: str) -> bool:
  """Whether a path lies in the stacked layers of a scanned model."""
  return _SCANNED_PART.search(path) is not None


def is_scanned(params: tree.Params) -> bool:
  """Whether the layers of a parameter tree are stacked in one array."""
  return any(map(is_scanned_path, tree.paths(params)))


def unstack(params: tree.Params) -> tree.Tree:
  """The looped tree: `encoder/layers/x` [L, ...] becomes `encoder/layers_0/x` [...] and so on."""
  leaves: tree.Leaves = {}
  for path, leaf in tree.flatten(params).items():
    if is_scanned_path(path):
      whole = jax.tree.map(np.asarray, leaf)  # A quantized kernel is several arrays.
      for i in range(leaf.shape[0]):
        leaves[looped_path(path, i)] = jax.tree.map(operator.itemgetter(i), whole)
    else:
      leaves[path] = leaf
  return tree.unflatten(leaves)


def stack(params: tree.Params, num_layers: int) -> tree.Tree:
  """The scanned tree of a looped one.

  Raises:
    ValueError: naming the parameters that not all layers have, or not in one shape. A rank that
      differs between layers causes this, or a method that trains the last layers only.
  """
  leaves: tree.Leaves = {}
  stacks: dict[str, dict[int, Any]] = {}
  for path, leaf in tree.flatten(params).items():
    name, index = scanned_path(path), layer_index(path)
    leaves.setdefault(name, leaf)  # A stack's place in the order is that of its first layer.
    if index is not None:
      stacks.setdefault(name, {})[index] = leaf
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
  """A method's options with the patterns of a scanned model rewritten for the looped one."""
  return _rewrite_options(options, _SCANNED_PATTERN, _LOOPED_PATTERN)


def names_layers(options: Mapping[str, Any]) -> bool:
  """Whether a pattern of a method's options names layers as a looped model has them."""
  return f'{SCANNED}_' in str([options.get(name, ()) for name in PATTERN_OPTIONS])


def scanned_patterns(options: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `looped_patterns`; a pattern of a single layer stays, and matches nothing."""
  return _rewrite_options(options, _LOOPED_PATTERN, _SCANNED_PATTERN)


def _rewrite_options(options: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
  return {
    name: _rewrite(value, old, new) if name in PATTERN_OPTIONS else value
    for name, value in options.items()
  }


def _rewrite(value: object, old: str, new: str) -> object:
  """A pattern, the patterns of a list, or the patterns that a mapping has for keys, rewritten."""
  if isinstance(value, str):
    return value.replace(old, new)
  if isinstance(value, Mapping):
    return {_rewrite(pattern, old, new): number for pattern, number in value.items()}
  if isinstance(value, list | tuple):
    return tuple(_rewrite(item, old, new) for item in value)
  return value
