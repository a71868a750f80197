"""GPT-2 (Radford et al. 2019), its output tied to its word embeddings."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax

from lora_jax.models import decoder, layers
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


class DecoderLayer(decoder.DecoderLayer):
  """GPT-2's; layers that add to the residual stream are drawn smaller by sqrt(2 num_layers)."""

  def norm(self, name: str) -> nn.Module:
    return layers.LayerNorm(self.config.norm_epsilon, self.options.dtype, name=name)

  def self_attention(self, name: str) -> nn.Module:
    c, std = self.config, self.config.initializer_range
    return SelfAttention(
      c.num_heads, self.options, causal=True, std=std, output_std=self._output_std, name=name
    )

  def mlp(self, name: str) -> nn.Module:
    c, std, output_std = self.config, self.config.initializer_range, self._output_std
    width, function = c.intermediate_size, c.activation
    return layers.MLP(width, function, self.options, std=std, output_std=output_std, name=name)

  @property
  def _output_std(self) -> float:
    return self.config.initializer_range * (2 * self.config.num_layers) ** -0.5


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
