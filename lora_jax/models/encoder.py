"""BERT (Devlin et al. 2018) and RoBERTa (Liu et al. 2019): one encoder, two configurations."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax.models import heads, layers
from lora_jax.models.attention import SelfAttention


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
  """Architecture of an encoder; the defaults are BERT-base's.

  `max_positions` is the number of usable positions; RoBERTa's table has two more rows, and its
  first position is `position_offset`. `classifier_dropout` None is the rate of the hidden states.
  """

  family: str = 'bert'
  vocab_size: int = 30522
  max_positions: int = 512
  position_offset: int = 0
  type_vocab_size: int = 2
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  intermediate_size: int = 3072
  activation: str = 'gelu'
  norm_epsilon: float = 1e-12
  initializer_range: float = 0.02
  pad_token_id: int = 0
  hidden_dropout: float = 0.1
  attention_dropout: float = 0.1
  classifier_dropout: float | None = None
  num_labels: int = 2

  @property
  def position_rows(self) -> int:
    """Rows of the table of position embeddings."""
    return self.max_positions + self.position_offset


class Embeddings(nn.Module):
  """Sum of word, position and token type embeddings, normalized."""

  config: Any  # An encoder's configuration; `models/deberta.py` has its own.
  options: layers.Options

  @nn.compact
  def __call__(
    self, input_ids: jax.Array, position_ids: jax.Array | None, token_type_ids: jax.Array | None
  ) -> jax.Array:
    c = self.config
    # Summed in float32 for the norm: a lookup is too small to gain from a lower dtype.
    options = dataclasses.replace(self.options, dtype=jnp.float32)

    def table(rows: int, name: str) -> layers.Embed:
      return layers.embed(rows, c.hidden_size, options, c.initializer_range, name)

    types = jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    x = table(c.vocab_size, 'word')(input_ids)
    if position_ids is not None:
      x += table(c.position_rows, 'position')(position_ids + c.position_offset)
    if c.type_vocab_size:
      x += table(c.type_vocab_size, 'token_type')(types)
    return layers.LayerNorm(c.norm_epsilon, self.options.dtype, name='norm')(x)


class EncoderLayer(nn.Module):
  """Attention and MLP, each followed by dropout, the residual and the norm (post-LN)."""

  config: Any  # As for `Embeddings`.
  options: layers.Options

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    columns: jax.Array | None,
    *,
    segment_ids: jax.Array | None,
    virtual: jax.Array,
    deterministic: bool,
    **inputs: Any,
  ) -> jax.Array:
    del virtual  # Methods that replace the input of a layer read it (`models/__init__.py`).
    c, std = self.config, self.config.initializer_range

    def add(x: jax.Array, y: jax.Array, name: str) -> jax.Array:
      norm = layers.LayerNorm(c.norm_epsilon, self.options.dtype, name=f'{name}_norm')
      branch = layers.Branch(self.options.hidden_dropout, name=f'{name}_branch')
      return norm(x + branch(y, deterministic=deterministic, added=lambda y: norm(x + y)))

    attention = self.self_attention(name='attention')
    y = attention(x, columns, segment_ids=segment_ids, deterministic=deterministic, **inputs)
    x = add(layers.take_columns(x, columns), y, 'attention')
    mlp = layers.MLP(
      c.intermediate_size, c.activation, self.options, std=std, output_std=std, name='mlp'
    )
    return add(x, mlp(x), 'mlp')

  def self_attention(self, name: str) -> nn.Module:
    """The attention; it gets those inputs of the layer that not every family has."""
    c, std = self.config, self.config.initializer_range
    return SelfAttention(c.num_heads, self.options, std=std, output_std=std, name=name)


class Encoder(layers.Transformer):
  """An encoder with a head for classification, or for regression (`num_labels=1`).

  `classifier_dropout` None is the configuration's own rate.
  """

  num_labels: int = 2
  classifier_dropout: float | None = None

  @property
  def head(self) -> tuple[str, ...]:
    """Patterns of the parameter paths of the task head."""
    return heads.PATHS[self.config.family]

  @nn.compact
  def __call__(
    self,
    input_ids: jax.Array,
    segment_ids: jax.Array | None = None,
    position_ids: jax.Array | None = None,
    token_type_ids: jax.Array | None = None,
    prediction_positions: jax.Array | None = None,
    *,
    deterministic: bool = True,
  ) -> jax.Array:
    """Float32 logits [R, E, num_labels] at `prediction_positions` [R, E].

    Without `prediction_positions` the logits are those of the first tokens, [R, num_labels].

    Args:
      input_ids, segment_ids, position_ids, token_type_ids: int32 [R, L]. Tokens see their own
        segment only. Without segments a row is one sequence with no padding.
      prediction_positions: columns of the examples' first tokens.
      deterministic: turns dropout off; with dropout the rng stream `dropout` is needed.
    """
    c, options = self.config, self.options
    columns = (
      jnp.zeros_like(input_ids[:, :1]) if prediction_positions is None else prediction_positions
    )
    position_ids = layers.positions(input_ids, segment_ids, position_ids, c.max_positions)
    embeddings = Embeddings(c, options, name='embeddings')
    x = embeddings(input_ids, position_ids, token_type_ids)
    x = layers.Dropout(options.embedding_dropout)(x, deterministic=deterministic)
    stack = layers.Stack(
      lambda name: EncoderLayer(c, options, name=name), c.num_layers, options, name='encoder'
    )
    x = stack(
      x,
      columns,
      segment_ids=segment_ids,
      virtual=input_ids - c.vocab_size,
      deterministic=deterministic,
    )
    logits = self.classify(x, deterministic=deterministic)
    return logits[:, 0] if prediction_positions is None else logits

  def classify(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
    """Float32 logits [..., num_labels] of the first tokens' states."""
    c = self.config
    rate = layers.first(self.classifier_dropout, c.classifier_dropout, self.options.hidden_dropout)
    return heads.HEADS[c.family](
      x,
      self.num_labels,
      std=c.initializer_range,
      dropout=lambda x: layers.Dropout(rate)(x, deterministic=deterministic),
    )
