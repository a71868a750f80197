"""The tensors of PEFT's files, by their names inside the wrapped model, and this package's note."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lora_jax import methods
from lora_jax.adapters.adapter import Options, check_values
from lora_jax.adapters.fingerprint import Fingerprint
from lora_jax.models import presets
from lora_jax.pretrained import pytorch, safetensors

TENSORS, PICKLED = 'adapter_model.safetensors', 'adapter_model.bin'
PREFIX = 'base_model.model.'
NOTE = 'lora_jax'  # Key of the note in the safetensors header.
# If biases and whole modules are trained, PEFT also saves copies from inside of its wrappers.
TRAINED = '.modules_to_save.'
COPIES = ('.original_module.', TRAINED)
# Factors in a state dict of PyTorch, which have the adapter's name after their own.
RUNTIME = re.compile(r'\.lora_([AB]\.[^.]+\.weight|embedding_[AB]\.[^.]+)$')


class Note(NamedTuple):
  """What `write` adds to the file's header; PEFT has no fields for it."""

  method: Options
  ranks: Mapping[str, int]  # By module path.
  architecture: Mapping[str, Any]  # Fields of `presets.architecture`.
  task: str
  num_labels: int
  fingerprint: Fingerprint
  label_names: Sequence[str] = ()


def read(folder: Path) -> tuple[dict[str, np.ndarray], Note | None]:
  """A folder's tensors, and the note that `peft.write` added; None if it did not write them.

  The names are those inside the wrapped model. Copies of PEFT's wrappers are left out.

  Raises:
    FileNotFoundError: if the folder holds neither file.
    ValueError: naming the file, if it is damaged, holds a NaN or an infinity, or has the names of a
      state dict of PyTorch.
  """
  path, note = folder / TENSORS, None
  if path.is_file():
    tensors = safetensors.Tensors(path)
    if (text := tensors.metadata.get(NOTE)) is not None:
      note = _read_note(text, path)
    held = dict(tensors)
  elif (folder / PICKLED).is_file():
    path = folder / PICKLED
    held = dict(pytorch.Tensors(path))
  else:
    raise FileNotFoundError(f'{folder}: has neither {TENSORS} nor {PICKLED}')
  check_values(held, str(path))
  return _inside(held, path), note


def _read_note(text: str, path: Path) -> Note:
  try:
    note = Note(**json.loads(text))
    methods.make(**note.method)
    presets.architecture(**note.architecture)
    if not all(isinstance(rank, int) and rank > 0 for rank in note.ranks.values()):
      raise ValueError(f'ranks {note.ranks}')
  except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
    raise ValueError(
      f"{path}: lora_jax's note in the header is damaged ({error!r}). Export the adapter again."
    ) from error
  return note


def _without_copies(name: str, tensors: Mapping[str, np.ndarray]) -> list[str]:
  """The tensors that have the name of a copy but for its wrappers, and maybe an adapter's name."""
  before, _, after = name.partition(TRAINED)
  names = [f'{before}.{after}', f'{before}.{after.partition(".")[2]}']
  inner = [_without_copies(x, tensors) if TRAINED in x else [x] for x in names]
  return [x for group in inner for x in group if x in tensors]


def _inside(tensors: Mapping[str, np.ndarray], file: Path) -> dict[str, np.ndarray]:
  """The tensors by their names inside the wrapped model, without the copies of PEFT's wrappers.

  Raises:
    ValueError: for the names of a state dict of PyTorch, which `save_pretrained` replaces; for a
      trained copy whose values are nowhere else.
  """
  if runtime := [name for name in tensors if RUNTIME.search(name)]:
    raise ValueError(
      f'{file}: {runtime[0]} holds the name of an adapter: this is a state dict of PyTorch. Load '
      'it into its PeftModel, and write the folder with model.save_pretrained(FOLDER).'
    )
  for name in [name for name in tensors if TRAINED in name]:
    if not any(np.array_equal(tensors[name], tensors[x]) for x in _without_copies(name, tensors)):
      raise ValueError(
        f'{file}: {name} is the trained copy of a module of modules_to_save that lies inside of '
        'another one, whose tensors are saved untrained. Name the outer or the inner module alone.'
      )
  return {
    name.removeprefix(PREFIX).replace('.base_layer.', '.'): x
    for name, x in tensors.items()
    if not any(part in name for part in COPIES)
  }
