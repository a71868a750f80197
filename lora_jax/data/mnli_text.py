"""MNLI as generation: premise and hypothesis in, the label out, as for GPT-3 (section 5.5).

A context is the premise, a line break and the hypothesis. The paper gives no template.
"""

from __future__ import annotations

from lora_jax.data import glue
from lora_jax.data.data_to_text import Example

LABELS = glue.TASKS['mnli'].classes


def read(split: str, source: str, data_dir: str) -> list[Example]:
  """Rows of a split.

  Raises:
    ValueError: as `glue.read`, and for a split without labels.
    FileNotFoundError: as `glue.read`.
  """
  rows = glue.read('mnli', split, source, data_dir)
  if rows.labels is None:
    raise ValueError(f'mnli_text: {split!r} has no labels to generate: use dev_matched')
  return [
    Example(f'{premise.strip()}\n{hypothesis.strip()}', LABELS[label])
    for premise, hypothesis, label in zip(*rows.texts, rows.labels)
  ]
