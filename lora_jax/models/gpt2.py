"""GPT-2 (Radford et al. 2019), its output tied to its word embeddings."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from lora_jax.models import layers
from lora_jax.models.attention import Cached, SelfAttention


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config:
  """Architecture of a GPT-2; the defaults are those of the smallest, 124M parameters."""

  family: str = 'gpt2'
  vocab_size: int = 50257
  max_positions: int = 1024
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  intermediate_size: int = 3072
  activation: str = 'gelu_new'
  norm_epsilon: float = 1e-5
  initializer_range: float = 0.02
  embedding_dropout: float = 0.1
  hidden_dropout: float = 0.1
  attention_dropout: float = 0.1


class Embeddings(nn.Module):
  """Word and position embeddings; the word embeddings are also the output layer."""

  config: GPT2Config
  options: layers.Options

  def setup(self) -> None:
    c, std = self.config, self.config.initializer_range
    self.word = layers.embed(c.vocab_size, c.hidden_size, self.options, std)
    self.position = layers.embed(c.max_positions, c.hidden_size, self.options, std)

  def __call__(self, input_ids: jax.Array, position_ids: jax.Array) -> jax.Array:
    return self.word(input_ids) + self.position(position_ids)

  def attend(self, x: jax.Array) -> jax.Array:
    """Float32 logits [..., vocab_size]."""
    return self.word.attend(x)


class DecoderLayer(nn.Module):
  """Norm, causal attention, residual; norm, MLP, residual (pre-LN)."""

  config: GPT2Config
  options: layers.Options

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    columns: jax.Array | None,
    *,
    virtual: jax.Array,
    deterministic: bool,
    **inputs: Any,
  ) -> jax.Array:
    del virtual  # Methods that replace the input of a layer read it (`models/__init__.py`).
    c, std = self.config, self.config.initializer_range
    output_std = std * (2 * c.num_layers) ** -0.5  # Of the layers that add to the residual stream.

    def norm(x: jax.Array, name: str) -> jax.Array:
      return layers.LayerNorm(c.norm_epsilon, self.options.dtype, name=name)(x)

    def add(x: jax.Array, y: jax.Array, name: str) -> jax.Array:
      branch = layers.Branch(self.options.hidden_dropout, name=f'{name}_branch')
      return x + branch(y, deterministic=deterministic)

    attention = SelfAttention(
      c.num_heads, self.options, causal=True, std=std, output_std=output_std, name='attention'
    )
    y = attention(norm(x, 'attention_norm'), columns, deterministic=deterministic, **inputs)
    x = add(layers.take_columns(x, columns), y, 'attention')
    mlp = layers.MLP(
      c.intermediate_size, c.activation, self.options, std=std, output_std=output_std, name='mlp'
    )
    return add(x, mlp(norm(x, 'mlp_norm')), 'mlp')


class GPT2(layers.Transformer):
  """A GPT-2 language model."""

  @property
  def head(self) -> tuple[str, ...]:
    """A language model has no task head: its output is the word embeddings."""
    return ()

  @nn.compact
  def __call__(
    self,
    input_ids: jax.Array,
    segment_ids: jax.Array | None = None,
    position_ids: jax.Array | None = None,
    prediction_positions: jax.Array | None = None,
    cached: Cached | None = None,
    *,
    deterministic: bool = True,
  ) -> jax.Array:
    """Float32 logits [R, E, vocab_size] at the columns `prediction_positions` [R, E].

    Without `prediction_positions` the logits are those of all columns, [R, L, vocab_size].

    Args:
      input_ids, segment_ids, position_ids: int32 [R, L]. Tokens see the earlier tokens of their own
        segment. Without segments a row is one sequence (padding after it changes nothing).
      prediction_positions: the columns that predict a wanted token; no other column pays for the
        product with the vocabulary.
      cached: where the row's keys and values go in the collection `cache`, all of which is then
        attended to (models/incremental.py). If that collection is mutable and this is None, the
        row's keys and values become the collection.
      deterministic: turns dropout off; with dropout the rng stream `dropout` is needed.
    """
    c, options = self.config, self.options
    position_ids = layers.positions(input_ids, segment_ids, position_ids, c.max_positions)
    embeddings = Embeddings(c, options, name='embeddings')
    x = embeddings(input_ids, position_ids)
    x = layers.Dropout(options.embedding_dropout)(x, deterministic=deterministic)
    stack = layers.Stack(
      lambda name: DecoderLayer(c, options, name=name), c.num_layers, options, name='decoder'
    )
    x = stack(
      x,
      prediction_positions,
      segment_ids=segment_ids,
      cached=cached,
      virtual=input_ids - c.vocab_size,
      deterministic=deterministic,
    )
    x = layers.LayerNorm(c.norm_epsilon, options.dtype, name='final_norm')(x)
    return embeddings.attend(x)
