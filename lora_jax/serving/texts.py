"""Texts of any lengths and any adapters, in batches of few shapes: `respond`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_jax.data.dataset import Dataset
from lora_jax.data.layout import Writer
from lora_jax.data.packing import Shape
from lora_jax.generation.decode import bucket
from lora_jax.serving.bank import BASE, Bank

SHORTEST = 16  # Columns of a batch: 16, 32, 64, ..., each compiled when it first occurs.
INPUTS = ('input_ids', 'segment_ids', 'position_ids', 'token_type_ids', 'prediction_positions')


def respond(
  bank: Bank,
  names: Sequence[str],
  ids: Sequence[np.ndarray],
  token_types: Sequence[np.ndarray] | None = None,
  *,
  rows: int = 32,
) -> np.ndarray:
  """Logits of an encoder for texts of any lengths, in their order.

  Texts of similar lengths share a batch, whatever their adapters. Its columns are 16, 32, 64, ...,
  at most the model's positions; its rows are `rows`, or an eighth of them where that is enough.

  Args:
    bank: of a model for classification or regression.
    names: the adapter of each text.
    ids, token_types: int32 [length] each, as a tokenizer gives them, special tokens included.
    rows: texts of a full batch.

  Returns:
    float32 [n, num_labels], -inf beyond the outputs of an adapter's head.

  Raises:
    ValueError: as `bank(...)`, for a text that is empty or longer than the model's positions, or
      lists of different lengths.
  """
  if len(names) != len(ids):
    raise ValueError(f'{len(names)} names of adapters, but {len(ids)} texts')
  texts, limit = Dataset(ids=ids, token_types=token_types), bank.model.config.max_positions
  if not len(texts):
    return np.zeros((0, bank.num_labels), np.float32)
  for i, length in enumerate(texts.lengths.tolist()):
    if not 0 < length <= limit:
      raise ValueError(f'text {i} has {length} tokens; the model takes 1 to {limit}')
  writer, pending = Writer(texts), []
  order = np.argsort(-texts.lengths, kind='stable')
  for begin in range(0, len(texts), rows):
    mine, few = order[begin : begin + rows], max(1, rows // 8)
    length = min(bucket(int(texts.lengths[mine[0]]), SHORTEST), limit)
    shape = Shape(few if len(mine) <= few else rows, length, num_predictions=1)
    batch = writer.write(shape, np.arange(len(mine)), mine)
    own = [names[i] for i in mine] + [BASE] * (shape.rows - len(mine))
    # All batches are dispatched before the first result is waited for.
    pending.append((mine, bank(own, **{key: batch[key] for key in INPUTS if key in batch})))
  logits = np.empty((len(texts), bank.num_labels), np.float32)
  for mine, found in pending:
    logits[mine] = np.asarray(found)[: len(mine), 0]
  return logits
