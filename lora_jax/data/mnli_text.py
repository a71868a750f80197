"""MNLI as generation: premise and hypothesis in, the label's name out, as for GPT-3 (section 5.5).

A context is the premise, a line break and the hypothesis. The paper gives no template.
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_jax.data import data_to_text, glue
from lora_jax.data.data_to_text import Example
from lora_jax.data.dataset import Task
from lora_jax.data.tokenizers import Tokenizer

LABELS = glue.TASKS['mnli'].classes


def load(
  tokenizer: Tokenizer,
  source: str,
  data_dir: str,
  max_length: int,
  limit: int = 0,
  seed: int = 0,
  evals: Sequence[str] = (),
) -> Task:
  """MNLI as a language model's task, judged on its matched part; see `load_task`."""
  return data_to_text.task(
    'mnli_text',
    read('train', source, data_dir),
    {split: read(split, source, data_dir) for split in evals or ('dev_matched',)},
    tokenizer,
    scoring='mnli_text',
    max_length=max_length,
    limit=limit,
    seed=seed,
  )


def read(split: str, source: str, data_dir: str) -> list[Example]:
  """Rows of a split; errors as of `glue.read`.

  Raises:
    ValueError: besides, for a split without labels.
  """
  rows = glue.read('mnli', split, source, data_dir)
  if rows.labels is None:
    raise ValueError(f'mnli_text: {split!r} has no labels to generate; take dev_matched')
  return [
    Example(f'{premise.strip()}\n{hypothesis.strip()}', LABELS[label])
    for premise, hypothesis, label in zip(*rows.texts, rows.labels)
  ]
