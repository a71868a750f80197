"""An adapter's values in a bank: one for each of the bank's arrays, padded to the largest size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import stacking, tree
from lora_jax.adapters.adapter import Adapter, Options
from lora_jax.methods.lora import FACTORS, MAGNITUDE, QUERY_VALUE, START, rule, scale
from lora_jax.methods.models import Model

Arrays = Mapping[str, np.ndarray]


class Needs(NamedTuple):
  """The arguments of a `Bank` with room for some adapters."""

  rank: int
  targets: tuple[str, ...]
  train: tuple[str, ...]
  num_labels: int


def needs(adapters: Mapping[str, Adapter], scanned: bool) -> Needs:
  """The smallest bank that holds all adapters, on a base with looped or scanned layers."""
  targets, train, rank = set(), set(), 1
  for name, adapter in adapters.items():
    check_method(name, adapter)
    for path, leaf in tree.flatten(stacking.unstack(adapter.trainable)).items():
      path = stacking.scanned_path(path) if scanned else path
      module, _, kind = path.rpartition('/')
      if kind in FACTORS:
        targets.add(re.escape(module))
        rank = max(rank, np.shape(leaf)[-1] if kind == FACTORS[0] else 1)
      else:
        train.add(re.escape(path))
  labels = max((adapter.num_labels for adapter in adapters.values()), default=0)
  return Needs(rank, tuple(sorted(targets)), tuple(sorted(train)), labels)


def check_method(name: str, adapter: Adapter) -> None:
  """Raises a ValueError if an adapter was not trained by LoRA."""
  method = adapter.method.get('name')
  if method != 'lora':
    hint = '. Export it as a plain LoRA (--as_lora --rank=RANK)' if method == 'vera' else ''
    raise ValueError(
      f'adapter {name!r} was trained by {method!r}: a bank holds factors of lora alone, which have '
      f'the same paths and shapes in all adapters{hint}'
    )
  beside = {path.rpartition('/')[2] for path in tree.paths(adapter.trainable)}
  if more := sorted(beside & {MAGNITUDE, *START}):
    raise ValueError(
      f'adapter {name!r} has {", ".join(more)} beside its factors (DoRA, PiSSA, OLoRA), for which '
      'a bank has no place. Export it as a plain LoRA (--as_lora --rank=RANK), or merged.'
    )


def values(
  name: str, adapter: Adapter, base: Arrays, rank: int, num_labels: int | None
) -> dict[str, np.ndarray]:
  """The arrays of an adapter in the bank's shapes, with its scale folded into `lora_b`.

  Args:
    name: the adapter's name, for errors.
    adapter: the adapter.
    base: the bank's arrays for its base, whose values fill what the adapter lacks.
    rank, num_labels: the bank's.

  Raises:
    ValueError: as `Bank.add`, naming all leaves that do not fit.
  """
  check_method(name, adapter)
  if num_labels and not 1 <= adapter.num_labels <= num_labels:
    raise ValueError(
      f'adapter {name!r} has {adapter.num_labels} labels; the bank has room for 1 to {num_labels} '
      '(its num_labels)'
    )
  options = stacking.looped_patterns(adapter.method)
  given = tree.flatten(stacking.unstack(adapter.trainable))
  places = _places(base)
  problems = [f'{path}: missing' for path in _expected(options, places) if path not in given]
  found = {path: value.copy() for path, value in base.items()}
  for path, value in given.items():
    if path not in places:
      problems.append(f"{path}: the bank's targets and train leave no place for it")
      continue
    place, index = places[path]
    slot = found[place][... if index is None else index]
    value, sizes = np.asarray(value, np.float32), (adapter.num_labels, num_labels or 0)
    module, _, kind = path.rpartition('/')
    if kind in FACTORS:
      own = np.shape(given.get(f'{module}/{FACTORS[0]}'.lstrip('/'), value))[-1]
      sizes = own, rank
      if kind == FACTORS[1]:
        alpha = rule('alpha', options['alpha'], module)
        factor = scale(alpha, own, options.get('rslora', False))
        value = value * np.float32(factor)
    inside = _inside(value.shape, slot.shape, *sizes)
    if inside is None:
      most = f' of rank up to {rank}' if kind in FACTORS else ''
      problems.append(f'{path}: {value.shape}, the bank has {slot.shape}{most}')
    elif not np.isfinite(value).all():
      problems.append(f'{path}: not finite')
    else:
      slot[...] = 0
      slot[inside] = value
  if problems:
    raise ValueError(f'adapter {name!r} does not fit the bank:\n  ' + '\n  '.join(problems))
  return found


def widen_head(
  model: Model,
  params: tree.Params,
  num_labels: int | None,
  inputs: Sequence[object],
  static: Mapping[str, Any],
) -> tuple[Model, tree.Params]:
  """The model with `num_labels` outputs; those that the base lacks are zero."""
  has = getattr(model, 'num_labels', None)
  if num_labels is None or num_labels == has:
    return model, params
  if has is None or num_labels < has:
    raise ValueError(f'num_labels={num_labels}: the base has {has or "no"} labels')
  model = cast(nn.Module, model).clone(num_labels=num_labels)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *_zeros(inputs), **static))
  leaves = tree.flatten(params)
  for path, shape in tree.flatten(nn.unbox(shapes['params'])).items():
    if path in leaves and leaves[path].shape != shape.shape:
      wide = np.zeros(shape.shape, leaves[path].dtype)
      inside = _inside(leaves[path].shape, shape.shape, has, num_labels)
      if inside is None:
        raise ValueError(f'{path}: {leaves[path].shape}, the model with more labels {shape.shape}')
      wide[inside] = leaves[path]
      leaves[path] = wide
  return model, tree.unflatten(leaves)


def _zeros(inputs: Sequence[object]) -> tuple[jax.Array, ...]:
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tuple(inputs))


def _expected(options: Options, places: Mapping[str, tuple[str, int | None]]) -> Iterator[str]:
  """The paths that an adapter with these options trains, among those of the bank."""
  for path in places:
    module, _, kind = path.rpartition('/')
    name, patterns = path, options.get('train', ())
    if kind in FACTORS:
      name, patterns = module, options.get('targets', QUERY_VALUE)
    if any(re.fullmatch(pattern, name) for pattern in tree.as_patterns(patterns)):
      yield path


def _places(arrays: Arrays) -> dict[str, tuple[str, int | None]]:
  """The place of each leaf of a looped adapter: an array, and an index if layers are stacked."""
  return {
    looped: (path, index)
    for path, array in arrays.items()
    for looped, index in stacking.looped_paths(path, len(array) if array.ndim else 0)
  }


def _inside(
  shape: Sequence[int], room: Sequence[int], size: int, largest: int
) -> tuple[slice, ...] | None:
  """The part of an array that a smaller one fills: at most one axis is `size`, not `largest`."""
  if len(shape) != len(room):
    return None
  shorter = [pair for pair in zip(shape, room) if pair[0] != pair[1]]
  if shorter and (len(shorter) > 1 or shorter[0] != (size, largest) or size > largest):
    return None
  return tuple(slice(0, n) for n in shape)
