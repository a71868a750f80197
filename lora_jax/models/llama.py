"""The Llama family (Touvron et al. 2023): Llama 2 and 3, SmolLM2, TinyLlama, Mistral, Qwen2, Qwen3.

All are decoders with root-mean-square norms, rotary positions, gated MLPs and, mostly, fewer heads
of keys and values than of queries. They differ in biases, norms of queries and keys, and in whether
the output is tied to the word embeddings.
"""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import ops
from lora_jax.models import decoder, heads, layers
from lora_jax.models.attention import Cached, Rotation, SelfAttention


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
  """Architecture of the family; the defaults are those of Llama 2 7B.

  Attributes:
    head_width: width of a head; `num_heads` of them need not make up `hidden_size`.
    rope_theta: the base of the wavelengths of the rotary positions.
    rope_factor: what Llama 3.1 and later divide the lowest frequencies by; 1 for none.
    rope_low, rope_high: wavelengths above `rope_original` / `rope_low` are divided, those below
      `rope_original` / `rope_high` are not, and those between partly.
    rope_original: number of positions before the division.
    biased: whether queries, keys and values have biases, and but for Qwen2 the output, too.
    normed: whether each head's queries and keys are normalized (Qwen3).
    tied: whether the output layer is the word embeddings.
  """

  family: str = 'llama'
  vocab_size: int = 32000
  max_positions: int = 4096
  hidden_size: int = 4096
  num_layers: int = 32
  num_heads: int = 32
  num_kv_heads: int = 32
  head_width: int = 128
  intermediate_size: int = 11008
  activation: str = 'silu'
  norm_epsilon: float = 1e-5
  initializer_range: float = 0.02
  rope_theta: float = 10000.0
  rope_factor: float = 1.0
  rope_low: float = 1.0
  rope_high: float = 4.0
  rope_original: int = 8192
  biased: bool = False
  normed: bool = False
  tied: bool = False
  hidden_dropout: float = 0.0
  attention_dropout: float = 0.0
  num_labels: int = 2

  @property
  def output_biased(self) -> bool:
    """Whether attention's output has a bias, as in transformers."""
    return self.biased and self.family != 'qwen2'


def frequencies(config: LlamaConfig) -> np.ndarray:
  """The angle per position of each pair of a head's elements [head_width / 2], float32.

  theta^(-2 i / width), divided by `rope_factor` as Llama 3.1 does (transformers,
  modeling_rope_utils.py, `llama3`).
  """
  c = config
  base = 1 / c.rope_theta ** (np.arange(0, c.head_width, 2, dtype=np.float32) / c.head_width)
  base = base.astype(np.float32)
  if c.rope_factor == 1:
    return base
  wavelengths = 2 * math.pi / base
  share = (c.rope_original / wavelengths - c.rope_low) / (c.rope_high - c.rope_low)
  share = np.clip(share, 0, 1)  # 1: a short wavelength, which stays.
  return (share * base + (1 - share) * base / c.rope_factor).astype(np.float32)


class Embeddings(nn.Module):
  """Word embeddings, which are also the output layer where that is tied."""

  config: LlamaConfig
  options: layers.Options

  def setup(self) -> None:
    c = self.config
    self.word = layers.embed(c.vocab_size, c.hidden_size, self.options, c.initializer_range)

  def __call__(self, input_ids: jax.Array) -> jax.Array:
    return self.word(input_ids)

  def attend(self, x: jax.Array) -> jax.Array:
    """Float32 logits [..., vocab_size]."""
    return self.word.attend(x)


class DecoderLayer(decoder.DecoderLayer):
  """Llama's: root-mean-square norms, grouped heads that may be normalized, a gated MLP."""

  def norm(self, name: str) -> nn.Module:
    return layers.RMSNorm(self.config.norm_epsilon, self.options.dtype, name=name)

  def self_attention(self, name: str) -> nn.Module:
    c, std = self.config, self.config.initializer_range
    return SelfAttention(
      c.num_heads,
      self.options,
      causal=True,
      std=std,
      output_std=std,
      num_kv_heads=c.num_kv_heads,
      head_width=c.head_width,
      biased=c.biased,
      output_biased=c.output_biased,
      norm_epsilon=c.norm_epsilon if c.normed else None,
      name=name,
    )

  def mlp(self, name: str) -> nn.Module:
    c, std = self.config, self.config.initializer_range
    return GatedMLP(c.intermediate_size, c.activation, self.options, std=std, name=name)


class GatedMLP(nn.Module):
  """down(activation(gate x) * up x), without biases."""

  width: int
  activation: str
  options: layers.Options
  std: float = 0.02

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = lambda width, name: layers.dense(width, self.options, self.std, name, biased=False)
    gate, up = dense(self.width, 'gate')(x), dense(self.width, 'up')(x)
    h = ops.gate(ops.ACTIVATIONS[self.activation], gate, up)
    return dense(x.shape[-1], 'down')(h)


class Llama(layers.Transformer):
  """A language model of the Llama family, or with `num_labels` a classifier (1: a regression)."""

  num_labels: int | None = None

  @property
  def head(self) -> tuple[str, ...]:
    """Patterns of the parameter paths of the task head; a language model has none."""
    return () if self.num_labels is None else heads.PATHS[self.config.family]

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
    """Float32 logits [R, E, vocab_size]; arguments and result are those of `gpt2.GPT2`.

    Those of a classifier are [R, E, num_labels], and `prediction_positions` are the columns of the
    examples' last tokens, which have seen all others.
    """
    c, options = self.config, self.options
    position_ids = layers.positions(input_ids, segment_ids, position_ids, c.max_positions)
    embeddings = Embeddings(c, options, name='embeddings')
    x = embeddings(input_ids)
    x = layers.Dropout(options.embedding_dropout)(x, deterministic=deterministic)
    angles = position_ids[..., None].astype(jnp.float32) * frequencies(c)[None, None]
    stack = layers.Stack(
      lambda name: DecoderLayer(c, options, name=name), c.num_layers, options, name='decoder'
    )
    x = stack(
      x,
      prediction_positions,
      segment_ids=segment_ids,
      rotation=Rotation(jnp.cos(angles), jnp.sin(angles)),
      cached=cached,
      virtual=input_ids - c.vocab_size,
      deterministic=deterministic,
    )
    x = layers.RMSNorm(c.norm_epsilon, options.dtype, name='final_norm')(x)
    if self.num_labels is not None:
      return heads.llama(x, self.num_labels, std=c.initializer_range)
    if c.tied:
      return embeddings.attend(x)
    return layers.dense(
      c.vocab_size,
      options,
      c.initializer_range,
      'lm_head',
      biased=False,
      result_dtype=jnp.float32,
    )(x)
