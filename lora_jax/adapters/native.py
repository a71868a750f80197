"""Adapters on disk, in this project's own format: a folder of two files.

`adapter.json` describes the adapter, `adapter.safetensors` holds the trained parameters by path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
from absl import logging
from safetensors import numpy as writer

from lora_jax import errors, files, provenance, stacking, tree
from lora_jax.adapters.adapter import (
  Adapter,
  check,
  does_nothing,
  options_from_json,
)
from lora_jax.adapters.fingerprint import Fingerprint
from lora_jax.models import presets
from lora_jax.pretrained import safetensors

FORMAT, VERSION = 'lora_jax adapter', 1
DESCRIPTION, TENSORS = 'adapter.json', 'adapter.safetensors'
LIBRARIES = ('jax', 'flax', 'numpy')
FIELDS = {  # The fields of adapter.json that are read, with their types.
  'format': str,
  'version': int,
  'method': dict,
  'architecture': dict,
  'task': str,
  'num_labels': int,
  'base': str,
  'fingerprint': dict,
  'sha256': str,
  'label_names': list,
}


class Description(TypedDict):
  """The contents of adapter.json that make an `Adapter`."""

  method: dict[str, object]
  architecture: dict[str, Any]
  task: str
  num_labels: int
  base: str
  fingerprint: Fingerprint
  sha256: str
  label_names: list[str]


def save_adapter(folder: str | Path, adapter: Adapter) -> None:
  """Writes an adapter as a new folder, whole or not at all.

  Raises:
    FileExistsError: if there is something at `folder` already.
    ValueError: if the adapter's parameters are not those that its method trains, so that
      `read` could not read them.
  """
  files.check_new(folder)
  leaves = tree.flatten(stacking.unstack(adapter.trainable))
  leaves = {path: np.ascontiguousarray(leaf, np.float32) for path, leaf in leaves.items()}
  method = stacking.looped_patterns(adapter.method)
  adapter = adapter._replace(method=method, trainable=tree.unflatten(leaves))
  check(adapter, 'the adapter')
  with files.new_folder(folder) as part:
    writer.save_file(leaves, part / TENSORS, metadata={'format': FORMAT})
    description = {
      'format': FORMAT,
      'version': VERSION,
      'method': method,
      'architecture': dataclasses.asdict(adapter.config),
      'task': adapter.task,
      'num_labels': adapter.num_labels,
      'label_names': list(adapter.label_names),
      'base': adapter.base,
      'fingerprint': dict(adapter.fingerprint),
      'libraries': {name: importlib.metadata.version(name) for name in LIBRARIES},
      'sha256': digest(part / TENSORS),
    }
    files.write_json(part / DESCRIPTION, description)


def read(folder: str | Path) -> Adapter:
  """Reads an adapter that `save_adapter` wrote.

  If every factor B is zero, as before training, a warning says so.

  Raises:
    FileNotFoundError: if the folder does not hold an adapter.
    ValueError: for a truncated or corrupt file, another kind of file or version of the format;
      for parameters that are missing, unexpected or misshapen (all in one message).
  """
  folder = Path(folder).expanduser()
  values = _read_description(folder)
  try:
    config = presets.architecture(**values['architecture'])
  except (TypeError, ValueError) as error:
    raise ValueError(f'{folder / DESCRIPTION}: architecture: {error}') from error
  if not (folder / TENSORS).is_file():
    raise FileNotFoundError(f'{folder}: has {DESCRIPTION}, but {TENSORS} is missing')
  tensors = safetensors.Tensors(folder / TENSORS)
  if digest(folder / TENSORS) != values['sha256']:
    raise ValueError(
      f'{folder / TENSORS} is not the file that was saved with {DESCRIPTION} (its sha256 differs): '
      'it is corrupt, or belongs to another adapter. Fetch or export it again.'
    )
  adapter = Adapter(
    method=options_from_json(values['method']),
    trainable=tree.unflatten({path: np.array(tensors[path]) for path in tensors}),
    config=config,
    task=values['task'],
    num_labels=values['num_labels'],
    base=values['base'],
    fingerprint=values['fingerprint'],
    label_names=tuple(values['label_names']),
  )
  check(adapter, str(folder / TENSORS))
  if does_nothing(adapter):
    logging.warning('%s: every factor B is zero: this adapter does nothing to its base.', folder)
  return adapter


def _read_description(folder: Path) -> Description:
  path = folder / DESCRIPTION
  if not path.is_file():
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    raise FileNotFoundError(
      f'{folder} is not an adapter: it has no {DESCRIPTION}. It holds: '
      f'{errors.listed(names) or "nothing"}.'
    )
  provenance.note(path)
  values = files.read_json(path)
  if not isinstance(values, dict) or values.get('format') != FORMAT:
    raise ValueError(
      f'{path}: expected format={FORMAT!r}; this is another kind of file. What lora_jax.save wrote '
      'is read by lora_jax.load(folder, model, params).'
    )
  if values.get('version') != VERSION:
    raise ValueError(
      f'{path}: version {values.get("version")!r} of the format; this lora_jax reads version '
      f'{VERSION}. Use the lora_jax that wrote it, or export the run again.'
    )
  values.setdefault('label_names', [])  # Files of the first versions name no classes.
  if wrong := [
    f'{name} is {values.get(name)!r}, expected {kind.__name__}'
    for name, kind in FIELDS.items()
    if not isinstance(values.get(name), kind)
  ]:
    raise ValueError(f'{path}: {"; ".join(wrong)}')
  return cast(Description, values)  # The types of its fields were just checked.


def digest(path: Path) -> str:
  """The sha256 of a file, in hexadecimal."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
