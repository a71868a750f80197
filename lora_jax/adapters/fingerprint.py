"""What a base model is, in a few lines of JSON: enough to tell it from another of its shape.

An adapter that is put on another base loads without an error and computes something else, so an
artefact carries its base's fingerprint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import ml_dtypes
import numpy as np

from lora_jax import stacking, tree
from lora_jax.models import heads, presets

SAMPLE = 4096  # Elements that are looked at in each array, evenly spaced.
# What does not change a deterministic forward pass, and the head, which is the adapter's.
FREE = re.compile(r'.*dropout|initializer_range|num_labels')


def fingerprint(params: tree.Params, config: presets.Config) -> dict[str, Any]:
  """Shapes and hashes of a base, its head left out.

  `shapes` and `hashes` go by path, the layers' numbers replaced by `*`; a hash is over a sample of
  the values in all layers, rounded to bfloat16. So it is the same for looped and scanned trees, and
  for a base loaded in float32 or in bfloat16. float16 rounds otherwise: such a base has no hashes.

  Args:
    params: the base's parameters (not those with an adapter's beside or merged into them).
    config: its architecture.
  """
  head = heads.PATHS.get(config.family, ())
  shapes: dict[str, list[int]] = {}
  hashes: dict[str, Any] = {}
  leaves = tree.flatten(stacking.unstack(nn.unbox(params)))
  for path in sorted(leaves, key=_layer):
    if any(re.fullmatch(pattern, path) for pattern in head):
      continue
    name, leaf = general(path), np.asarray(leaves[path])
    shapes.setdefault(name, list(leaf.shape))
    sample = leaf.flat[:: max(1, leaf.size // SAMPLE)].astype(np.float32)
    hashes.setdefault(name, hashlib.blake2b(digest_size=8))
    hashes[name].update(sample.astype(ml_dtypes.bfloat16).tobytes())
  rounded = any(np.dtype(leaf.dtype) == np.float16 for leaf in leaves.values())
  return {
    'shapes': dict(sorted(shapes.items())),
    'hashes': {} if rounded else {name: hashes[name].hexdigest() for name in sorted(hashes)},
  }


def general(path: str) -> str:
  """A path with `*` for the number of its layer."""
  return re.sub(r'(^|/)layers_\d+/', r'\1layers_*/', path)


def differences(
  config: presets.Config,
  known: Mapping[str, Any],
  other_config: presets.Config,
  other: Mapping[str, Any],
  ignored: frozenset[str] = frozenset(),
) -> list[str]:
  """How another base differs from a known one, a line each; dropout and head may differ.

  Args:
    config, known: architecture and fingerprint of the known base; a fingerprint may be empty.
    other_config, other: those of the other one.
    ignored: paths (`general`) whose values do not matter.
  """
  mine, theirs = dataclasses.asdict(config), dataclasses.asdict(other_config)
  found = [
    f'{name}: {mine.get(name)} there, {theirs.get(name)} here'
    for name in dict.fromkeys((*mine, *theirs))
    if not FREE.fullmatch(name) and mine.get(name) != theirs.get(name)
  ]
  for kind, what in (('shapes', 'shape'), ('hashes', 'values')):
    there, here = known.get(kind), other.get(kind)
    if found or not there or not here:
      continue
    names = [name for name in dict.fromkeys((*there, *here)) if there.get(name) != here.get(name)]
    if names := [name for name in names if name not in ignored]:
      shown = ', '.join(names[:8]) + (f' and {len(names) - 8} more' if len(names) > 8 else '')
      found.append(f'{what} of {len(names)} of its {len(there)} parameters: {shown}')
  return found


def _layer(path: str) -> tuple[str, int]:
  number = re.search(r'(^|/)layers_(\d+)/', path)
  return general(path), int(number[2]) if number else 0
