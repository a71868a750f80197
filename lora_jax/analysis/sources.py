"""The updates of a run or an adapter, with what the report of an analysis says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lora_jax import files, tree
from lora_jax.adapters import formats
from lora_jax.analysis import description, factors
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import job, paths, rundir


class Run(NamedTuple):
  """What the report says of a run or an adapter, and its updates.

  Attributes:
    facts: what the report says of it.
    updates: of its matrices.
    weights: SHA-256 of the files of its base's weights by their names, as its record has them.
  """

  facts: dict[str, Any]
  updates: list[factors.Update]
  weights: Mapping[str, object] = MappingProxyType({})


def is_adapter(source: str) -> bool:
  """Whether `source` names an adapter, not a run directory."""
  if paths.on_bucket(source):  # Adapters are read from the disk or the hub.
    return False
  path = Path(source).expanduser()
  return source.startswith(formats.HUB) or path.is_file() or any(path.glob('adapter*.json'))


def read_run(workdir: str, which: str) -> Run:
  """A run's updates, and what they came from; neither its data nor its base is read.

  Raises:
    ValueError: if the folder is not a run directory or has no `which` (best or last) checkpoint, or
      if its method has no factors.
  """
  config, folder = rundir.read_config(workdir), paths.path_of(workdir)
  if not rundir.is_run(workdir):
    raise ValueError(f'{workdir} has no checkpoints. Train it first: experiments.train')
  step, trainable = job.read_trainable(workdir, config, which)
  result = folder / 'result.json'
  method = config.method.to_dict()
  updates = _updates(workdir, trainable, method)
  facts = {
    'run': folder.resolve().name,
    'which': which,
    'step': step,
    'task': config.task,
    'model': config.model.name,
    'seed': config.seed,
    **description.describe(updates, trainable, method),
    'commit': files.read_object(result).get('commit', '') if result.exists() else '',
  }
  if config.model.name == 'fresh':  # Another seed or shape is another base.
    facts['fresh'] = {'seed': config.seed, **config.model.fresh.to_dict()}
  return Run(facts, updates, rundir.read_base_weights(folder))


def check_bases(first: Run, second: Run) -> None:
  """Raises a ValueError if two runs are on different bases, by their names or their files."""
  description.check_bases(first.facts, second.facts)
  for name in sorted(first.weights.keys() & second.weights.keys()):
    if first.weights[name] != second.weights[name]:
      raise ValueError(
        f'the runs {first.facts["run"]} and {second.facts["run"]} are on different bases of one '
        f'name, {Path(first.facts["model"]).name}: {name} had other contents (provenance.json). '
        'Directions in one are not directions in the other. If it is one base in two files, say '
        '--other_base.'
      )


def read_adapter(source: str, base: str = '', alpha: float | None = None) -> Run:
  """An adapter's updates, in any format; only the architecture of its base is needed.

  Args:
    source: as `formats.load_adapter` takes it.
    base: a preset or a model's folder, for adapters that do not store their base's architecture.
    alpha: of a loralib file, which stores no scale.

  Raises:
    ValueError, FileNotFoundError: as `formats.load_adapter`, or if its method has no factors.
  """
  config = None
  if preset := presets.PRESETS.get(base):
    config = preset.config
  elif base:
    config = huggingface.read_config(huggingface.locate(base))
  adapter = formats.load_adapter(source, config=config, alpha=alpha)
  updates = _updates(source, adapter.trainable, adapter.method)
  facts = {
    'run': Path(source).name,
    'task': adapter.task,
    'model': base or adapter.base,
    **description.describe(updates, adapter.trainable, adapter.method),
  }
  return Run(facts, updates)


def _updates(
  source: str, trainable: tree.Params, method: Mapping[str, Any]
) -> list[factors.Update]:
  try:
    return factors.updates(trainable, method)
  except ValueError as error:
    raise ValueError(f'{source}: {error}') from error
