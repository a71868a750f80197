"""An adapter apart from its base: the trained parameters, and what is needed to use them.

    model, params = load_model('roberta-base', task='classification', num_labels=2)
    adapter = load_adapter('out/mrpc')
    method, frozen, trainable = attach(adapter, model, params)
    logits = bind(model.apply, method)(frozen, trainable, input_ids)

`native.py` reads and writes this project's format, `peft.py` and `loralib.py` those of other tools;
`load_adapter` (`formats.py`) reads them all.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from lora_jax import errors, methods, stacking, tree
from lora_jax.adapters import fingerprint as fingerprints
from lora_jax.methods.lora import FACTORS
from lora_jax.methods.vera import VECTORS
from lora_jax.models import presets
from lora_jax.pretrained import huggingface

Options = Mapping[str, Any]  # A method's name and options, as `methods.make(**options)` takes them.


class Adapter(NamedTuple):
  """A base model's adaptation to a task.

  Attributes:
    method: name and options: `{'name': 'lora', 'rank': 8, 'alpha': 16.0, 'targets': (...),
      'train': (...), ...}`. So the scale is part of an adapter.
    trainable: the trained parameters (factors, head, ...), NumPy float32, at their paths in the
      parameter tree of the looped model.
    config: the base model's architecture.
    task: `classification`, `regression` or `lm`.
    num_labels: outputs of the head; 0 for a language model.
    base: the base model's name or folder; '' if unknown.
    fingerprint: the base's fingerprint; empty if unknown.
    label_names: names of the head's classes; none if they are unknown.
  """

  method: Options
  trainable: tree.Params
  config: presets.Config
  task: str
  num_labels: int = 0
  base: str = ''
  fingerprint: fingerprints.Fingerprint = types.MappingProxyType({})
  label_names: tuple[str, ...] = ()


def attach(
  adapter: Adapter, model: nn.Module, params: tree.Params, *, other_base: bool = False
) -> tuple[methods.Method, tree.Tree, tree.Tree]:
  """Puts an adapter on its base.

  Args:
    adapter: as it was loaded or imported.
    model, params: the base, looped or scanned, in any dtype; no array of it is copied. The
      adapter's head replaces that in `params`.
    other_base: accept a base of the same shape that is not the one the adapter was trained on.

  Returns:
    (method, frozen, trainable), for `bind(model.apply, method)(frozen, trainable, ...)`.

  Raises:
    ValueError: if the base is another (with the differences), if the model has another head, or if
      the model is scanned and the adapter is not the same in all layers.
  """
  params = nn.unbox(params)
  options, trainable = adapter.method, adapter.trainable
  if not other_base:
    check_base(adapter, model, params)
  if stacking.is_scanned(params):
    options, trainable = (
      stacking.scanned_patterns(options),
      stacking.stack(trainable, model.config.num_layers),
    )
  method = methods.make(**options)
  if problems := _problems(_trainable_shapes(method, model, params), trainable):
    labels = getattr(model, 'num_labels', 0)
    hint = (
      f' The model has {labels} outputs, the adapter {adapter.num_labels}: load the model with '
      f'task={adapter.task!r}, num_labels={adapter.num_labels}.'
      if labels != adapter.num_labels
      else ''
    )
    raise ValueError(f'the adapter does not fit the model: {"; ".join(problems)}.{hint}')
  trained = tree.flatten(trainable)
  frozen = {path: leaf for path, leaf in tree.flatten(params).items() if path not in trained}
  return method, tree.unflatten(frozen), tree.unflatten(trained)


def check(adapter: Adapter, where: str) -> None:
  """Raises a ValueError naming `where` if the parameters are not finite and of the method."""
  try:
    model = abstract_base(adapter.config, adapter.task, adapter.num_labels)
    params = presets.abstract_params(model)
    expected = _trainable_shapes(methods.make(**adapter.method), model, params)
  except (ValueError, TypeError, AttributeError) as error:  # Fields of any JSON type.
    raise ValueError(f'{where}: no such model or method: {error}') from error
  if problems := _problems(expected, adapter.trainable):
    raise ValueError(f'{where}: the parameters do not fit: {"; ".join(problems)}')
  check_values(tree.flatten(adapter.trainable), where)


def abstract_base(config: presets.Config, task: str, num_labels: int) -> presets.Model:
  """The model that an adapter's fields describe; nothing is read."""
  labels = {} if task == 'lm' else {'num_labels': num_labels}
  return huggingface.make_model(config, task=task, **labels)


def check_base(
  adapter: Adapter,
  model: nn.Module,
  params: tree.Params,
  *,
  fingerprint: fingerprints.Fingerprint | None = None,
) -> None:
  """Raises a ValueError with the differences if a base is not the adapter's.

  Parameters that the adapter replaces do not count: after full fine-tuning any base of the shape is
  accepted. An adapter without a fingerprint, as other tools write them, is compared by architecture
  alone. `fingerprint` is that of `params`; None computes it.
  """
  if fingerprint is None:
    fingerprint = fingerprints.fingerprint(params, model.config) if adapter.fingerprint else {}
  own = frozenset(map(stacking.generalize, tree.flatten(adapter.trainable)))
  if found := fingerprints.differences(
    adapter.config, adapter.fingerprint, model.config, fingerprint, own
  ):
    name = f' ({adapter.base})' if adapter.base else ''
    fits = all(line.startswith('values') for line in found)
    hint = ', or pass other_base=True (--other_base) to use this one' if fits else ''
    raise ValueError(
      f'this is not the base{name} that the adapter was trained on. They differ in '
      f'{"; ".join(found)}. Load that base{hint}.'
    )


def check_values(tensors: Mapping[str, np.ndarray], where: str) -> None:
  """Raises a ValueError naming `where` and the tensors with anything but finite float32 numbers."""
  is_float = lambda x: jax.numpy.issubdtype(x.dtype, np.floating)
  if other := [f'{name} is {x.dtype}' for name, x in tensors.items() if not is_float(x)]:
    raise ValueError(f'{where}: expected floating-point tensors, but {errors.listed(other)}')
  with np.errstate(over='ignore'):
    bad = [name for name, x in tensors.items() if not np.isfinite(np.asarray(x, np.float32)).all()]
  if bad:
    raise ValueError(
      f'{where}: NaN or infinity in {errors.listed(bad)}: the training diverged, or the file is '
      'damaged. Use an earlier checkpoint, or fetch the file again.'
    )


def does_nothing(adapter: Adapter) -> bool:
  """Whether the adapter has factors, or vectors of VeRA, and in each pair one that is zero."""
  leaves = tree.flatten(adapter.trainable)
  pair = VECTORS if adapter.method['name'] == 'vera' else FACTORS
  sites = [path.removesuffix(pair[0]) for path in leaves if path.endswith(pair[0])]
  zero = lambda site: any(not np.any(leaves[f'{site}{name}']) for name in pair)
  return bool(sites) and all(map(zero, sites))


def options_from_json(values: Mapping[str, object]) -> dict[str, Any]:
  """A method's options from their JSON: lists become tuples throughout."""
  return {key: _tuples(value) for key, value in values.items()}


def _tuples(value: object) -> object:
  if isinstance(value, dict):
    return options_from_json(value)
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _trainable_shapes(
  method: methods.Method, model: nn.Module, params: tree.Params
) -> dict[str, errors.Shape]:
  """Shapes of the parameters that a method trains, by path. Nothing is computed."""
  init = functools.partial(method.init, jax.random.key(0), model)
  leaves = tree.flatten(jax.eval_shape(lambda params: init(params, presets.TOKENS), params)[1])
  return {path: leaf.shape for path, leaf in leaves.items()}


def _problems(expected: Mapping[str, errors.Shape], trainable: tree.Params) -> list[str]:
  """Missing, unexpected and misshapen parameters, and those of another dtype than float32."""
  found = tree.flatten(trainable)
  problems = errors.mismatches(expected, found)
  if other := [f'{path} is {x.dtype}' for path, x in found.items() if x.dtype != np.float32]:
    problems.append(f'expected float32, but {errors.listed(other)}')
  return problems
