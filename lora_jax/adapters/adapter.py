"""An adapter apart from its base: what was trained, and what has to be known to use it.

    model, params = load_model('roberta-base', task='classification', num_labels=2)
    adapter = load_adapter('out/mrpc')
    method, frozen, trainable = attach(adapter, model, params)
    logits = bind(model.apply, method)(frozen, trainable, input_ids)

`artefact.py` has it on disk, `peft.py` and `loralib.py` in the formats of others.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from lora_jax import methods, stacking, tree
from lora_jax.adapters import fingerprint as fingerprints
from lora_jax.models import presets
from lora_jax.pretrained import huggingface

TOKENS = jax.ShapeDtypeStruct((1, 8), np.int32)


class Adapter(NamedTuple):
  """What a run trained.

  Attributes:
    method: name and options, as `methods.make(**method)` takes them: `{'name': 'lora', 'rank': 8,
      'alpha': 16.0, 'targets': (...), 'train': (...), ...}`; so the scale is part of an adapter.
    trainable: factors, head and whatever else was trained, NumPy float32, at their paths in the
      parameter tree of the looped model (`encoder/layers_0/...`; a scanned one is unstacked).
    config: the base model's architecture.
    task: what the model computes: `classification`, `regression` or `lm`.
    num_labels: outputs of the head; 0 for a language model.
    base: the base model's name or folder, '' where it is not known.
    fingerprint: of the base (`fingerprint.fingerprint`), empty where it is not known.
  """

  method: Mapping[str, Any]
  trainable: Mapping[str, Any]
  config: presets.Config
  task: str
  num_labels: int = 0
  base: str = ''
  fingerprint: Mapping[str, Any] = types.MappingProxyType({})


def attach(
  adapter: Adapter, model: nn.Module, params: tree.Params, *, other_base: bool = False
) -> tuple[methods.Method, dict[str, Any], dict[str, Any]]:
  """An adapter on its base: `(method, frozen, trainable)`, as `bind(model.apply, method)` takes it.

  Args:
    adapter: as it was loaded or imported.
    model, params: the base, looped or scanned, in any dtype; no array of it is copied. A head in
      `params` gives way to the adapter's.
    other_base: take another base of the same shape than the one that the adapter was trained on.

  Raises:
    ValueError: if the base is another (with what differs), the model has another head, or its
      layers are scanned and the adapter is not the same in all of them.
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
  problems = _problems(_trained(method, model, params), trainable)
  if problems:
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
  """Raises a ValueError naming `where` if the parameters are not those that the method trains."""
  options = {} if adapter.task == 'lm' else {'num_labels': adapter.num_labels}
  try:
    model = huggingface.make_model(adapter.config, task=adapter.task, **options)
    params = jax.eval_shape(model.init, jax.random.key(0), TOKENS)['params']
    expected = _trained(methods.make(**adapter.method), model, params)
  except (ValueError, TypeError) as error:
    raise ValueError(f'{where}: no such model or method: {error}') from error
  if problems := _problems(expected, adapter.trainable):
    raise ValueError(f'{where}: the parameters do not fit: {"; ".join(problems)}')


def check_base(
  adapter: Adapter,
  model: nn.Module,
  params: tree.Params,
  *,
  here: Mapping[str, Any] | None = None,
) -> None:
  """Raises a ValueError that says what differs if a base is not the adapter's.

  What the adapter brings itself does not count: after full fine-tuning any base of the shape does.
  An adapter without a fingerprint, as other tools' are, is compared by architecture alone. `here`
  is the fingerprint of `params`, where it is at hand.
  """
  if here is None:
    here = fingerprints.fingerprint(params, model.config) if adapter.fingerprint else {}
  own = frozenset(map(fingerprints.general, tree.flatten(adapter.trainable)))
  if found := fingerprints.differences(
    adapter.config, adapter.fingerprint, model.config, here, own
  ):
    name = f' ({adapter.base})' if adapter.base else ''
    fits = all(line.startswith('values') for line in found)
    hint = ', or say other_base=True (--other_base) if you mean this one' if fits else ''
    raise ValueError(
      f'this is not the base{name} that the adapter was trained on. They differ in '
      f'{"; ".join(found)}. Load that base{hint}.'
    )


def does_nothing(adapter: Adapter) -> bool:
  """Whether the adapter has factors, and in each pair one that is zero."""
  leaves = tree.flatten(adapter.trainable)
  sites = [path.removesuffix('lora_a') for path in leaves if path.endswith('lora_a')]
  zero = lambda path: not np.any(leaves[path])
  return bool(sites) and all(zero(f'{site}lora_a') or zero(f'{site}lora_b') for site in sites)


def tuples(value: Any) -> Any:
  """JSON's lists as tuples, throughout: as a method's options are given."""
  if isinstance(value, dict):
    return {key: tuples(item) for key, item in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list) else value


def _trained(method: methods.Method, model: nn.Module, params: Any) -> dict[str, Any]:
  """Shapes of what a method trains, by path. Nothing is computed."""
  init = functools.partial(method.init, jax.random.key(0), model)
  return tree.flatten(jax.eval_shape(lambda params: init(params, TOKENS), params)[1])


def _problems(expected: Mapping[str, Any], trainable: tree.Params) -> list[str]:
  """Missing, unexpected and misshapen parameters."""
  found = tree.flatten(trainable)
  missing = [f'{path} {expected[path].shape}' for path in expected if path not in found]
  unexpected = [f'{path} {found[path].shape}' for path in found if path not in expected]
  misshapen = [
    f'{path} is {found[path].shape}, expected {leaf.shape}'
    for path, leaf in expected.items()
    if path in found and found[path].shape != leaf.shape
  ]
  other = [
    f'{path} is {x.dtype}, expected float32' for path, x in found.items() if x.dtype != np.float32
  ]
  named = dict(missing=missing, unexpected=unexpected, misshapen=misshapen, dtypes=other)
  return [f'{kind} {", ".join(names)}' for kind, names in named.items() if names]
