"""Fingerprints of base models: a few lines of JSON that tell one from another of its shape.

Put on another base of the same shape, an adapter would load without an error and compute something
else. So an adapter's files hold the fingerprint of its base.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import errors, quantization, stacking, tree
from lora_jax.models import heads, presets

# Elements of each array that enter its hash, evenly spaced; of a larger array up to twice as many.
SAMPLE = 4096
# Fields of an architecture that may differ: they do not change a deterministic forward pass, or
# belong to the head, which is the adapter's.
FREE = re.compile(r'.*dropout|initializer_range|num_labels')
# `shapes`, `hashes` and the `formats` of quantized kernels by path; empty if unknown.
Fingerprint = Mapping[str, Mapping[str, object]]


def fingerprint(params: tree.Params, config: presets.Config) -> Fingerprint:
  """Shapes and hashes of a base without its head.

  `shapes` and `hashes` are by path, with `*` for a layer's number. A hash is over a sample of the
  values in all layers, rounded to bfloat16. So it is the same for looped and scanned trees, and for
  a base loaded in float32 or in bfloat16. float16 rounds differently: such a base has no hashes.
  A quantized kernel's hash is over its codes; `formats` says how it is quantized.

  Args:
    params: the base's parameters, without an adapter's beside or merged into them.
    config: the base's architecture.
  """
  head = heads.PATHS.get(config.family, ())
  leaves = tree.flatten(stacking.unstack(nn.unbox(params)))
  is_head = lambda path: any(re.fullmatch(pattern, path) for pattern in head)
  return of_leaves({path: leaf for path, leaf in leaves.items() if not is_head(path)})


def of_leaves(leaves: tree.Leaves) -> Fingerprint:
  """The fingerprint of any model's parameters by path."""
  shapes: dict[str, list[int]] = {}
  hashes: dict[str, hashlib.blake2b] = {}
  formats: dict[str, str] = {}
  for path in sorted(leaves, key=lambda path: (stacking.generalize(path), _layer_number(path))):
    name, leaf = stacking.generalize(path), leaves[path]
    shapes.setdefault(name, list(leaf.shape))
    hashes.setdefault(name, hashlib.blake2b(digest_size=8))
    hashes[name].update(_sample(leaf))
    if isinstance(leaf, quantization.Kernel):
      formats[name] = leaf.format
  rounded = any(np.dtype(leaf.dtype) == np.float16 for leaf in leaves.values())
  return {
    'shapes': dict(sorted(shapes.items())),
    'hashes': {} if rounded else {name: hashes[name].hexdigest() for name in sorted(hashes)},
    **({'formats': dict(sorted(formats.items()))} if formats else {}),
  }


def differences(
  adapter_config: presets.Config,
  adapter_print: Fingerprint,
  model_config: presets.Config,
  model_print: Fingerprint,
  ignored: frozenset[str] = frozenset(),
) -> list[str]:
  """The differences of a model from an adapter's base, a line each; dropout and head may differ.

  Args:
    adapter_config, adapter_print: architecture and fingerprint of the adapter's base. Empty
      fingerprints are not compared.
    model_config, model_print: those of the model.
    ignored: paths, as `stacking.generalize` writes them, whose values do not matter.
  """
  base, model = dataclasses.asdict(adapter_config), dataclasses.asdict(model_config)
  fields = [
    f"{name}: {base.get(name)} in the adapter's base, {model.get(name)} in the model"
    for name in dict.fromkeys((*base, *model))
    if not FREE.fullmatch(name) and base.get(name) != model.get(name)
  ]
  return fields or print_differences(adapter_print, model_print, ignored)


def print_differences(
  one_print: Fingerprint, other_print: Fingerprint, ignored: frozenset[str] = frozenset()
) -> list[str]:
  """The difference of a fingerprint from another in shapes or else in values: a line, or none."""
  if one_print and other_print:
    one, other = (_quantization(found, ignored) for found in (one_print, other_print))
    if one != other:
      return [f"values: quantize={one} in the adapter's base, quantize={other} in the model"]
  for kind, what in (('shapes', 'shape'), ('hashes', 'values')):
    one, other = one_print.get(kind), other_print.get(kind)
    if not one or not other:
      continue
    names = [path for path in dict.fromkeys((*one, *other)) if one.get(path) != other.get(path)]
    if names := [path for path in names if path not in ignored]:
      total = f'{what} of {len(names)} of its {len(one)} parameters'
      return [f'{total}: {errors.listed(names, limit=8)}']
  return []


def _sample(leaf: np.ndarray | jax.Array | quantization.Kernel) -> bytes:
  """The bytes of a parameter's sample that enter its hash."""
  coded = isinstance(leaf, quantization.Kernel)
  array = np.asarray(leaf.arrays['codes'] if isinstance(leaf, quantization.Kernel) else leaf)
  sample = array.flat[:: max(1, array.size // SAMPLE)]
  return (sample if coded else sample.astype(np.float32).astype(jnp.bfloat16)).tobytes()


def _quantization(found: Fingerprint, ignored: frozenset[str]) -> str:
  formats = found.get('formats', {})
  counted = {str(format) for name, format in formats.items() if name not in ignored}
  return ', '.join(sorted(counted)) or 'none'


def _layer_number(path: str) -> int:
  """The number of a path's layer; 0 outside of layers."""
  return stacking.layer_index(path) or 0
