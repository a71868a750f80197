"""Whether a model can have a method, and how many parameters it then trains; by shapes alone."""

from __future__ import annotations

import copy
import json
from typing import NamedTuple

from ml_collections import ConfigDict

from lora_jax.cost import shapes
from lora_jax.data import tasks
from lora_jax.models import presets


class Fit(NamedTuple):
  """A model with a method.

  Attributes:
    architecture: of the model.
    trained: parameters, those of a task head included.
    why_not: the reason if the model cannot have the method.
  """

  architecture: presets.Config | None
  trained: int
  why_not: str


class Fits:
  """The fits of configs; those of equal model, method and kind of task are found once."""

  def __init__(self) -> None:
    self._found: dict[str, Fit] = {}

  def __call__(self, config: ConfigDict) -> Fit:
    """How a config's model and method fit; the weights are not read."""
    kind = tasks.without_data(config.task)
    parts = [json.loads(one.to_json_best_effort()) for one in (config.model, config.method)]
    key = json.dumps([*parts, kind.kind, kind.num_labels, config.data.max_length])
    if key not in self._found:
      self._found[key] = of(config)
    return self._found[key]


def of(config: ConfigDict) -> Fit:
  """See `Fits`."""
  one = copy.deepcopy(config)
  # Layers in one stack are traced once, but then the last ones cannot be told apart.
  one.model.scan = config.method.name != 'top_layers'
  try:
    work = shapes.abstract_job(one)
  except ValueError as error:
    reason = str(error).splitlines()[0]
    for details in (' (a pattern ', ' Did you mean ', ' Known: '):
      reason = reason.partition(details)[0]
    return Fit(None, 0, reason)
  return Fit(work.model.config, work.summary.trainable, '')
