"""Texts of any lengths and any adapters, grouped into batches of few shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_jax.data.dataset import Dataset
from lora_jax.data.layout import Writer
from lora_jax.data.shapes import Shape
from lora_jax.generation.decode import bucket
from lora_jax.models.presets import INPUTS, is_decoder
from lora_jax.serving.bank import BASE, Bank

SHORTEST = 16  # Columns of the narrowest batch; others have 32, 64, ...


def respond(
  bank: Bank,
  names: Sequence[str],
  ids: Sequence[np.ndarray],
  token_types: Sequence[np.ndarray] | None = None,
  *,
  rows: int = 32,
) -> np.ndarray:
  """Logits of texts of any lengths, in their order.

  The bank's model is an encoder, or a Llama that classifies. Texts of similar lengths share a
  batch, whatever their adapters. A batch has 16, 32, 64, ... columns, at most the model's
  positions, and `rows` rows, or an eighth of them if that is enough. Each shape
  is compiled when it first occurs.

  Args:
    bank: a bank of a model for classification or regression.
    names: the adapter of each text.
    ids, token_types: int32 [length] each, as a tokenizer returns them, with special tokens.
    rows: texts of a full batch.

  Returns:
    float32 [n, num_labels], -inf beyond the outputs of an adapter's head.

  Raises:
    ValueError: as `bank(...)`; for a bank without labels; for a text that is empty or longer than
      the model's positions; for lists of different lengths.
  """
  if bank.num_labels is None:
    raise ValueError('respond needs a bank of a model with a head; this one has no num_labels')
  if len(names) != len(ids):
    raise ValueError(f'{len(names)} names of adapters, but {len(ids)} texts: give a name for each')
  config = bank.model.config
  texts, limit = Dataset(ids=ids, token_types=token_types), config.max_positions
  if is_decoder(config):
    texts = texts.reading_last()
  if not len(texts):
    return np.zeros((0, bank.num_labels), np.float32)
  for i, length in enumerate(texts.lengths.tolist()):
    if not 0 < length <= limit:
      raise ValueError(f'text {i} has {length} tokens; the model takes 1 to {limit}')
  writer, pending = Writer(texts), []
  order = np.argsort(-texts.lengths, kind='stable')
  for begin in range(0, len(texts), rows):
    indices, few = order[begin : begin + rows], max(1, rows // 8)
    length = min(bucket(int(texts.lengths[indices[0]]), SHORTEST), limit)
    shape = Shape(few if len(indices) <= few else rows, length, num_predictions=1)
    batch = writer.write(shape, np.arange(len(indices)), indices)
    adapters = [names[i] for i in indices] + [BASE] * (shape.rows - len(indices))
    # All batches are dispatched before the first result is awaited.
    pending.append((indices, bank(adapters, **{key: batch[key] for key in INPUTS if key in batch})))
  logits = np.empty((len(texts), bank.num_labels), np.float32)
  for indices, found in pending:
    logits[indices] = np.asarray(found)[: len(indices), 0]
  return logits
