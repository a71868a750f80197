"""Adapters of one's own models, of Linen or of NNX: a method's trained parameters on disk.

    lora_jax.save('out/mine', method, trainable, frozen=frozen)
    method, frozen, trainable = lora_jax.load('out/mine', model, params)   # An nnx.Module alone.

The folder has the two files of `native.py`, for a model that is not one of this package's.
"""

from __future__ import annotations

import re
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from safetensors import numpy as writer

from lora_jax import errors, files, methods, provenance, tree
from lora_jax.adapters.adapter import check_values, options_from_json
from lora_jax.adapters.fingerprint import of_leaves, print_differences
from lora_jax.adapters.native import DESCRIPTION, TENSORS, digest
from lora_jax.methods import lowrank, sites
from lora_jax.methods.lora import FACTORS
from lora_jax.methods.models import params_of
from lora_jax.methods.vera import VECTORS
from lora_jax.pretrained import safetensors

FORMAT, VERSION = 'lora_jax method', 1
FIELDS = {'method': dict, 'base': dict, 'dtypes': dict, 'sha256': str}


def save(
  folder: str | Path,
  method: methods.Method,
  trainable: tree.Params,
  *,
  frozen: tree.Params | None = None,
) -> None:
  """Writes what a method trained in any model as a new folder, whole or not at all.

  Args:
    folder: a new folder, or an empty one.
    method: the method; its options are saved with it.
    trainable: the trained parameters, saved in float32.
    frozen: the frozen part. If it is given, its fingerprint is saved, and `load` checks that the
      base is the same one.

  Raises:
    FileExistsError: if there is something at `folder` already.
    ValueError: if the method does not know its options, or a value is not finite.
  """
  files.check_new(folder)
  if not _is_known(method.options):
    raise ValueError(
      'save: this method does not know its options, so that no one could make it again from the '
      f'file. Use one of lora_jax: {errors.listed(sorted(methods.METHODS))}.'
    )
  leaves = {path: np.asarray(x) for path, x in tree.flatten(nn.unbox(trainable)).items()}
  check_values(leaves, 'save: the trainable parameters')
  base = {} if frozen is None else of_leaves(tree.flatten(nn.unbox(frozen)))
  with files.new_folder(folder) as part:
    tensors = {path: np.ascontiguousarray(x, np.float32) for path, x in leaves.items()}
    writer.save_file(tensors, part / TENSORS, metadata={'format': FORMAT})
    description = {
      'format': FORMAT,
      'version': VERSION,
      'method': dict(method.options),
      'base': dict(base),
      'dtypes': {path: str(x.dtype) for path, x in leaves.items()},
      'sha256': digest(part / TENSORS),
    }
    files.write_json(part / DESCRIPTION, description)


def load(
  folder: str | Path,
  model: object,
  params: tree.Params | None = None,
  *,
  other_base: bool = False,
) -> tuple[methods.Method, tree.Tree, tree.Tree]:
  """Reads what `save` wrote, and puts it on its base.

  Args:
    folder: the folder.
    model: the model, of Linen or of NNX.
    params: its parameters; an nnx.Module holds its own.
    other_base: accept a base of the same shape that is not the one that was trained on; without a
      fingerprint in the file, one with further layers that the method would adapt.

  Returns:
    (method, frozen, trainable), for `bind(model, method)(frozen, trainable, ...)`. No array of
    `params` is copied.

  Raises:
    FileNotFoundError: if the folder does not hold the two files.
    ValueError: for a corrupt file, another kind of file, parameters that do not fit the model, or
      another base, with the differences.
  """
  folder = Path(folder).expanduser()
  values = _read_description(folder / DESCRIPTION)
  if not (folder / TENSORS).is_file():
    raise FileNotFoundError(f'{folder}: has {DESCRIPTION}, but {TENSORS} is missing')
  tensors = safetensors.Tensors(folder / TENSORS)
  if digest(folder / TENSORS) != values['sha256']:
    raise ValueError(f'{folder / TENSORS} is not the file that was saved with {DESCRIPTION}')
  try:
    method = methods.make(**options_from_json(values['method']))
    dtypes = {path: np.dtype(values['dtypes'][path]) for path in tensors}
  except (TypeError, KeyError, ValueError) as error:
    raise ValueError(f'{folder / DESCRIPTION}: no such method or dtypes: {error}') from error
  trainable = {path: jnp.asarray(tensors[path], dtypes[path]) for path in tensors}
  params = params_of(model) if params is None else params
  if params is None:
    raise ValueError('load: a Linen model needs its parameters: load(folder, model, params)')
  leaves = tree.flatten(nn.unbox(params))
  if problems := _problems(trainable, leaves):
    raise ValueError(f'{folder}: does not fit the model: {"; ".join(problems)}')
  if not values['base'] and not other_base and (left := _left_out(method, trainable, leaves)):
    raise ValueError(
      f'{folder}: the method adapts {errors.listed(left)} of this model, too, and the file has no '
      'factors for them: it is of a model with fewer layers. Load it on that one, or pass '
      'other_base=True to leave these as they are.'
    )
  frozen = {path: leaf for path, leaf in leaves.items() if path not in trainable}
  found = print_differences(values['base'], of_leaves(frozen)) if values['base'] else []
  if found and not other_base:
    raise ValueError(
      f'{folder}: this is not the base that was trained on. They differ in {"; ".join(found)}. '
      'Load that base, or pass other_base=True to use this one.'
    )
  return method, tree.unflatten(frozen), tree.unflatten(trainable)


def _is_known(options: object) -> bool:
  """Whether a method's options, and those of its parts, name a method."""
  if not isinstance(options, dict) or 'name' not in options:
    return False
  return all(map(_is_known, options.get('methods', ())))


def _read_description(path: Path) -> files.Json:
  if not path.is_file():
    raise FileNotFoundError(f'{path.parent} holds no {path.name}: expected a folder of `save`')
  provenance.note(path)
  values = files.read_object(path)
  if values.get('format') != FORMAT or values.get('version') != VERSION:
    raise ValueError(
      f'{path}: format {values.get("format")!r}, version {values.get("version")!r}; this reads '
      f'{FORMAT!r}, version {VERSION}. Read an adapter of a model of this package by load_adapter.'
    )
  if wrong := [
    f'{name} is {values.get(name)!r}, expected {kind.__name__}'
    for name, kind in FIELDS.items()
    if not isinstance(values.get(name), kind)
  ]:
    raise ValueError(f'{path}: {"; ".join(wrong)}')
  return values


def _problems(trainable: tree.Params, leaves: tree.Params) -> list[str]:
  """What of the trained parameters has no place in a model with these leaves."""
  own = {path: x for path, x in trainable.items() if path in leaves}
  problems = errors.mismatches({path: leaves[path].shape for path in own}, own)
  modules = {path.rpartition('/')[0] for path in leaves}
  lost = [
    module
    for path in trainable
    if path not in leaves
    for module, _, name in [path.rpartition('/')]
    if name in (FACTORS[0], VECTORS[0]) and module not in modules
  ]
  if lost:
    near = errors.nearest(lost[0], sorted(modules))
    problems.append(f'the model has no layer {errors.listed(lost)}. {near}')
  return problems + _misshapen(trainable, leaves)


def _left_out(method: methods.Method, trainable: tree.Params, leaves: tree.Params) -> list[str]:
  """Modules that the method would adapt and has not, named as adapted ones but for numbers."""
  split = [path.rpartition('/') for path in trainable if path not in leaves]
  adapted = {module for module, _, name in split if name in (FACTORS[0], VECTORS[0])}
  kind = lambda module: re.sub(r'\d+', '*', module)
  kinds = {kind(module) for module in adapted}
  weights = [path.rpartition('/') for path in leaves]
  return [
    module
    for module, _, name in weights
    if name in lowrank.WEIGHTS and module not in adapted and kind(module) in kinds
    if any(re.fullmatch(pattern, module) for pattern in method.patterns)
  ]


def _misshapen(trainable: tree.Params, leaves: tree.Params) -> list[str]:
  """The factors that make no update of the weight beside them, and those that lack the other."""
  problems = []
  for module in dict.fromkeys(path.rpartition('/')[0] for path in trainable):
    leaf = lambda name: sites.inside(module, name)
    weight = next((leaves[leaf(x)] for x in lowrank.WEIGHTS if leaf(x) in leaves), None)
    a, b = (trainable.get(leaf(name)) for name in FACTORS)
    vector = trainable.get(leaf(VECTORS[1]))
    if (a is None) != (b is None):
      problems.append(f'missing {leaf(FACTORS[a is not None])}')
    elif weight is None:
      continue
    elif a is not None and b is not None and not lowrank.fits(a.shape, b.shape, weight.shape):
      problems.append(
        f'{leaf(FACTORS[0])} {a.shape} and {FACTORS[1]} {b.shape} make no update of a weight '
        f'{weight.shape}'
      )
    elif vector is not None and vector.shape[-1] != weight.shape[-1]:
      problems.append(f'{leaf(VECTORS[1])} {vector.shape} is not for a weight {weight.shape}')
  return problems
