"""The paper's hyperparameters: tables 9 to 12 (appendix D) and table 17 (appendix F).

Batch sizes are those of the print; whether it means the batch of a device or of all of them is left
open by the paper, and taken as the latter here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class GlueRow(NamedTuple):
  """What a table or a script says of a task of GLUE.

  Attributes:
    weight_decay: tables 9 and 10 give it for DeBERTa alone; RoBERTa's is that of the scripts.
    classifier_dropout: dropout before the task head; None leaves it to the checkpoint.
    warmup_steps: takes precedence over `warmup_ratio` when it is nonzero.
    eval_steps: steps between evaluations; 0 evaluates after every epoch.
  """

  lr: float
  batch_size: int
  epochs: int
  max_length: int
  weight_decay: float
  classifier_dropout: float | None
  warmup_ratio: float
  warmup_steps: int
  eval_steps: int


GLUE_TASKS = ('mnli', 'sst2', 'mrpc', 'cola', 'qnli', 'qqp', 'rte', 'stsb')


def by_task(
  lr: Sequence[float],
  batch_size: Sequence[int],
  epochs: Sequence[int],
  max_length: Sequence[int],
  weight_decay: Sequence[float] = (0.1,) * 8,
  classifier_dropout: Sequence[float | None] = (None,) * 8,
  warmup_ratio: Sequence[float] = (0.06,) * 8,
  warmup_steps: Sequence[int] = (0,) * 8,
  eval_steps: Sequence[int] = (0,) * 8,
) -> dict[str, GlueRow]:
  """The rows of a table whose columns are given, each with a value for every one of GLUE_TASKS."""
  training = lr, batch_size, epochs, max_length
  rest = weight_decay, classifier_dropout, warmup_ratio, warmup_steps, eval_steps
  return dict(zip(GLUE_TASKS, map(GlueRow, *training, *rest), strict=True))


# Table 9, RoBERTa-base LoRA; the order is that of GLUE_TASKS, as in all of these tables.
ROBERTA_BASE = by_task(
  lr=(5e-4, 5e-4, 4e-4, 4e-4, 4e-4, 5e-4, 5e-4, 4e-4),
  batch_size=(16, 16, 16, 32, 32, 16, 32, 16),
  epochs=(30, 60, 30, 80, 25, 25, 80, 40),
  max_length=(512,) * 8,
)
# Table 9, RoBERTa-large LoRA.
ROBERTA_LARGE = by_task(
  lr=(3e-4, 4e-4, 3e-4, 2e-4, 2e-4, 3e-4, 4e-4, 2e-4),
  batch_size=(4, 4, 4, 4, 4, 4, 8, 8),
  epochs=(10, 10, 20, 20, 10, 20, 20, 30),
  max_length=(128, 128, 512, 128, 512, 512, 512, 512),
)
# Table 9, RoBERTa-large LoRA †.
ROBERTA_LARGE_ADAPTER_SETUP = by_task(
  lr=(3e-4, 4e-4, 3e-4, 2e-4, 2e-4, 3e-4, 4e-4, 2e-4),
  batch_size=(4,) * 8,
  epochs=(10, 10, 20, 20, 10, 20, 20, 10),
  max_length=(128,) * 8,
)
# Table 10, DeBERTa-v2-XXL LoRA.
DEBERTA_XXL = by_task(
  lr=(1e-4, 6e-5, 2e-4, 1e-4, 1e-4, 1e-4, 2e-4, 2e-4),
  batch_size=(8, 8, 32, 4, 6, 8, 4, 4),
  epochs=(5, 16, 30, 10, 8, 11, 11, 10),
  max_length=(256, 128, 128, 64, 512, 320, 320, 128),
  weight_decay=(0.0, 0.01, 0.01, 0.0, 0.01, 0.01, 0.01, 0.1),
  classifier_dropout=(0.15, 0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.2),
  warmup_ratio=(0.1,) * 8,
)


def _adapters(lr: Sequence[float], epochs: Sequence[int]) -> dict[str, GlueRow]:
  """Table 9's rows of an adapter; the decay of the scripts, which set none, is 0."""
  return by_task(lr, (32,) * 8, epochs, (128,) * 8, weight_decay=(0.0,) * 8)


# Table 9, adapters on RoBERTa-large †: method -> bottleneck -> rows.
ADAPTERS_OF_ROBERTA_LARGE = {
  'adapter_p': {
    16: _adapters((3e-4,) * 8, (5, 20, 20, 20, 10, 20, 20, 20)),
    64: _adapters((3e-5, 3e-5, *(3e-4,) * 6), (10, 20, 20, 20, 10, 20, 20, 20)),
  },
  'adapter_h': {
    8: _adapters((3e-4,) * 8, (10, 5, 10, 10, 5, 20, 20, 10)),
    64: _adapters((3e-5, *(3e-4,) * 7), (10, 5, 10, 10, 5, 20, 20, 10)),
  },
}

# Rank and alpha of tables 9 and 10.
RANK_OF_GLUE = 8
ALPHA_OF_ROBERTA_BASE = 8
ALPHA_OF_ROBERTA_LARGE = 16
ALPHA_OF_DEBERTA_XXL = 8


class TextRow(NamedTuple):
  """What table 11 says of one task of GPT-2, and the table that its results are in.

  Attributes:
    dropout: of the input of LoRA; the model has no other dropout.
    length_penalty: a beam's log-probability is divided by its length to this power.
  """

  paper_table: str
  weight_decay: float
  dropout: float
  label_smoothing: float
  length_penalty: float


# Table 11, the columns.
TABLE_11 = {
  'e2e': TextRow('3', 0.01, 0.1, 0.1, 0.9),
  'webnlg': TextRow('14', 0.01, 0.1, 0.1, 0.8),
  'dart': TextRow('13', 0.0, 0.0, 0.0, 0.8),
}
# Table 11, what is the same for its three tasks.
GPT2_TRAINING = dict(lr=2e-4, batch_size=8, epochs=5, warmup_steps=500)
GPT2_LORA = dict(rank=4, alpha=32)
GPT2_BEAMS = 10
GPT2_NO_REPEAT_NGRAM = 4

# Table 12, GPT-3: a learning rate for each method; length, batch and the rest for each task.
GPT3_RATES = {
  'full': 5e-6,
  'bitfit': 1.6e-3,
  'prefix_embed': 5e-4,
  'prefix_layer': 1e-4,
  'adapter_h': 1e-4,
  'lora': 2e-4,
}
GPT3_LENGTHS = {'wikisql': 384, 'mnli_text': 768, 'samsum': 2048}
GPT3_BATCH_SIZE = 128
GPT3_EPOCHS = 2
GPT3_WARMUP_TOKENS = 250_000
GPT3_WEIGHT_DECAY = 0.1


class FewExamples(NamedTuple):
  """A column of table 17: GPT-3 on some of MNLI's training examples (0: on all of them).

  Attributes:
    rates: of the methods whose rate is not that of table 12 throughout.
    embed_prefix: lp of prefix_embed.
  """

  examples: int
  batch_size: int
  epochs: int
  rates: dict[str, float]
  embed_prefix: int


TABLE_17 = {
  '100': FewExamples(100, 20, 40, {'prefix_embed': 2e-4, 'prefix_layer': 5e-5}, 16),
  '1k': FewExamples(1_000, 20, 40, {'prefix_embed': 2e-4, 'prefix_layer': 5e-5}, 32),
  '10k': FewExamples(10_000, 100, 4, {'prefix_embed': 4e-4, 'prefix_layer': 5e-5}, 64),
  'all': FewExamples(
    0, GPT3_BATCH_SIZE, GPT3_EPOCHS, {'prefix_embed': 5e-4, 'prefix_layer': 1e-4}, 256
  ),
}
