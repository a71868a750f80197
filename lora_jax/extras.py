"""Packages that the core does without, and the error where one is missing: `require`.

`pip install lora_jax` brings what `lora`, the models, their readers and the adapters need. The rest
comes by extras: `pip install 'lora_jax[train]'`.
"""

from __future__ import annotations

import functools
import importlib.util

from lora_jax.errors import listed

# The extra that brings a package, by the name that the package is imported by.
EXTRAS = {
  'jinja2': 'data',
  'scipy': 'data',
  'sentencepiece': 'data',
  'tokenizers': 'data',
  'array_record': 'tfds',
  'tensorflow_datasets': 'tfds',
  'etils': 'train',
  'fsspec': 'train',
  'ml_collections': 'train',
  'orbax': 'train',
  'tensorboardX': 'train',
  'tensorstore': 'train',
  'tqdm': 'train',
  'pycocoevalcap': 'metrics',
  'rapidfuzz': 'metrics',
  'rouge_score': 'metrics',
  'sacrebleu': 'metrics',
  'markdown_it': 'report',
  'matplotlib': 'report',
  'PIL': 'report',
  'gguf': 'gguf',
  'gcsfs': 'gcs',
}


class MissingExtra(ImportError):
  """A package that an extra brings is not installed; the message says how to install it."""


def missing(*packages: str) -> MissingExtra:
  """The error about packages that are not installed."""
  extras = ','.join(dict.fromkeys(EXTRAS[name] for name in packages))
  what = f'{listed(packages)} {"is" if len(packages) == 1 else "are"} not installed'
  return MissingExtra(f"{what}: pip install 'lora_jax[{extras}]'")


@functools.cache
def require(*packages: str) -> None:
  """Does nothing if the packages, keys of `EXTRAS`, are installed; it imports none.

  Raises:
    MissingExtra: naming those that are not, and the extras that bring them.
  """
  if absent := [name for name in packages if importlib.util.find_spec(name) is None]:
    raise missing(*absent)
