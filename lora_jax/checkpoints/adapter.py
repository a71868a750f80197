"""An adapter apart from its base: what was trained, and what has to be known to use it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from lora_jax.models import presets


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
    fingerprint: of the base (`adapter.fingerprint`), empty where it is not known.
  """

  method: Mapping[str, Any]
  trainable: Mapping[str, Any]
  config: presets.Config
  task: str
  num_labels: int = 0
  base: str = ''
  fingerprint: Mapping[str, Any] = types.MappingProxyType({})
