"""DeBERTa-v2 (He et al. 2021) and v3: attention to contents and relative positions, disentangled.

A score is the sum of three products: of query and key, of query and the key of the distance, and of
key and the query of the distance. There are no absolute positions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import ops
from lora_jax.models import layers
from lora_jax.models.attention import attention, implementation_of, weight_dropout
from lora_jax.models.encoder import Embeddings, Encoder, EncoderLayer


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebertaConfig:
  """Architecture; the defaults are DeBERTa-v3-base's.

  Each distance below half of `position_buckets` has its own row in the table of relative positions,
  longer ones share rows in logarithmic steps up to `max_positions`, and all beyond have the last
  row. `convolution` is the width of the kernel beside the first layer; 0 is no convolution.
  """

  family: str = 'deberta-v2'
  vocab_size: int = 128100
  max_positions: int = 512
  position_buckets: int = 256
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  intermediate_size: int = 3072
  activation: str = 'gelu'
  convolution: int = 0
  convolution_activation: str = 'gelu'
  norm_epsilon: float = 1e-7
  initializer_range: float = 0.02
  pad_token_id: int = 0
  hidden_dropout: float = 0.1
  attention_dropout: float = 0.1
  classifier_dropout: float | None = None
  num_labels: int = 2

  position_rows: ClassVar[int] = 0  # An encoder has these two tables; this model has neither.
  type_vocab_size: ClassVar[int] = 0


@functools.lru_cache(maxsize=64)
def relative_rows(length: int, size: int, limit: int) -> np.ndarray:
  """Rows of the table [2 size] of relative positions for distances 1 - length, ..., length.

  The distance of a query at column i and a key at column j is i - j. The rows are computed in
  float32, as transformers does.
  """
  distances = np.arange(1 - length, length + 1)
  middle = size // 2
  far = np.maximum(np.abs(distances), middle).astype(np.float32) / np.float32(middle)
  steps = np.log(far) / np.log(np.float32((limit - 1) / middle)) * np.float32(middle - 1)
  shared = (np.sign(distances) * (np.ceil(steps) + middle)).astype(np.int64)
  buckets = np.where(np.abs(distances) <= middle, distances, shared)
  return np.clip(buckets + size, 0, 2 * size - 1)


def _at_columns(x: jax.Array) -> jax.Array:
  """x [..., L, 2L], entry n of row i being that of column i + n - (L - 1), to [..., L, L].

  A shift of rows by reshaping: it has a gradient without scatter, which is slow and, on GPUs, sums
  in no fixed order.
  """
  *over, length, width = x.shape
  x = x.reshape(*over, length * width)[..., length - 1 : length * width - 1]
  return x.reshape(*over, length, width - 1)[..., :length]


class DisentangledAttention(nn.Module):
  """`SelfAttention` with relative positions, whose queries and keys have the same projections."""

  config: DebertaConfig
  options: layers.Options

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    columns: jax.Array | None,
    *,
    relative: jax.Array,
    segment_ids: jax.Array | None = None,
    deterministic: bool,
  ) -> jax.Array:
    """`relative` [P, width] are the rows of `relative_rows`, each once, in order."""
    c, width, length = self.config, x.shape[-1], x.shape[1]
    project = {
      name: layers.dense(width, self.options, c.initializer_range, name)
      for name in ('query', 'key', 'value', 'output')
    }

    def heads(name: str, x: jax.Array) -> jax.Array:
      return project[name](x).reshape(*x.shape[:-1], c.num_heads, width // c.num_heads)

    relative = layers.Dropout(self.options.hidden_dropout)(relative, deterministic=deterministic)
    query, key, value = (heads(name, x) for name in ('query', 'key', 'value'))
    rows = relative_rows(length, c.position_buckets, c.max_positions)
    at = rows - rows.min()

    def product(x: jax.Array, table: jax.Array) -> jax.Array:
      """x [R, L, heads, width] with table [2L, heads, width]: float32 [heads, R, L, L]."""
      dims = (((3,), (2,)), ((2,), (1,)))
      return _at_columns(ops.dot_general(x, table, dims, preferred_element_type=jnp.float32))

    # From a query's view the columns run against the distance, from a key's view along with it. No
    # score reads the last of the 2L rows.
    to_position = product(query, heads('key', relative)[np.roll(at[::-1], -1)])
    of_position = product(key, heads('query', relative)[at]).swapaxes(2, 3)
    scale = (3 * width // c.num_heads) ** -0.5  # A score is the sum of three products.
    y = attention(
      query,
      key,
      value,
      segment_ids,
      bias=((to_position + of_position) * np.float32(scale)).swapaxes(0, 1),
      scale=scale,
      implementation=implementation_of(self, self.options),
      dropout=weight_dropout(self, self.options.attention_dropout, deterministic),
    )
    return project['output'](layers.take_columns(y.reshape(x.shape), columns))


class DebertaLayer(EncoderLayer):
  """An encoder's layer with disentangled attention."""

  config: DebertaConfig

  def self_attention(self, name: str) -> nn.Module:
    return DisentangledAttention(self.config, self.options, name=name)


class Convolution(nn.Module):
  """A convolution over the embedded tokens of a segment, beside the first layer."""

  config: DebertaConfig
  options: layers.Options

  @nn.compact
  def __call__(
    self, x: jax.Array, segment_ids: jax.Array | None, *, deterministic: bool
  ) -> Callable[[jax.Array], jax.Array]:
    """A function that adds the convolution to the first layer's output, and normalizes the sum."""
    c, options = self.config, self.options
    rows, length, width = x.shape
    shape = (c.convolution, width, width)
    init = nn.initializers.normal(c.initializer_range)
    kernel = self.param('kernel', init, shape, options.param_dtype).astype(options.dtype)
    bias = self.param('bias', nn.initializers.zeros, (width,), options.param_dtype)
    reach = c.convolution // 2

    def window(x: jax.Array) -> jax.Array:
      """x [R, L, ...] to [R, L, kernel, ...]: the columns around each one, zero beyond the row."""
      padded = jnp.pad(x, ((0, 0), (reach, reach), *((0, 0),) * (x.ndim - 2)))
      return jnp.stack([padded[:, i : i + length] for i in range(c.convolution)], axis=2)

    seen = window(x)
    if segment_ids is not None:
      # Padding, segment 0, counts as beyond the row; its own sums are not used.
      own = window(segment_ids) == segment_ids[:, :, None]
      seen = jnp.where(own[..., None], seen, jnp.zeros((), x.dtype))
    dims = (((2,), (0,)), ((), ()))
    flat = seen.reshape(rows, length, -1), kernel.reshape(-1, width)
    y = ops.dot_general(*flat, dims) + bias.astype(options.dtype)[None, None]
    y = layers.Dropout(options.hidden_dropout)(y, deterministic=deterministic)
    y = ops.activate(ops.ACTIVATIONS[c.convolution_activation], y)
    norm = layers.Norm(width, name='norm')()
    return lambda x: ops.normalize(x + y, *norm, c.norm_epsilon, options.dtype)


class Deberta(Encoder):
  """DeBERTa-v2 with a head for classification, or for regression (`num_labels=1`)."""

  config: DebertaConfig

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
    """Logits as `Encoder` gives them. `position_ids` and types are not read: distances are those of
    columns.
    """
    c, options = self.config, self.options
    columns = (
      jnp.zeros_like(input_ids[:, :1]) if prediction_positions is None else prediction_positions
    )
    x = Embeddings(c, options, name='embeddings')(input_ids, None, token_type_ids)
    x = layers.Dropout(options.embedding_dropout)(x, deterministic=deterministic)
    inputs: dict[str, Any] = dict(
      segment_ids=segment_ids, virtual=input_ids - c.vocab_size, deterministic=deterministic
    )
    if c.convolution:
      convolution = Convolution(c, options, name='convolution')
      inputs['after_first'] = convolution(x, segment_ids, deterministic=deterministic)
    stack = layers.Stack(
      lambda name: DebertaLayer(c, options, name=name), c.num_layers, options, name='encoder'
    )
    x = stack(x, columns, relative=self._relative(x.shape[1]), **inputs)
    logits = self.classify(x, deterministic=deterministic)
    return logits[:, 0] if prediction_positions is None else logits

  def _relative(self, length: int) -> jax.Array:
    """The normalized rows of the table of relative positions that rows of a length need."""
    c, options = self.config, self.options
    rows = relative_rows(length, c.position_buckets, c.max_positions)
    exact = dataclasses.replace(options, dtype=jnp.float32)
    table = layers.embed(
      2 * c.position_buckets, c.hidden_size, exact, c.initializer_range, 'relative'
    )
    x = table(jnp.asarray(np.arange(rows.min(), rows.max() + 1)))
    return layers.LayerNorm(c.norm_epsilon, options.dtype, name='relative_norm')(x)
