"""Self-attention within segments. All of it is computed by one function, `attention`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import ops
from lora_jax.models import fused_attention, layers


class Cached(NamedTuple):
  """The place of a call's T tokens among the C columns of the cache, and what each token sees.

  Attributes:
    at: int32 [], the column of a row's first token, the same in all rows; the others follow it.
    visible: bool [R, T, C], the columns that each token sees.
  """

  at: jax.Array
  visible: jax.Array


class Rotation(NamedTuple):
  """Cosines and sines of the angles of queries and keys, float32 [R, T, width of a head / 2]."""

  cos: jax.Array
  sin: jax.Array


def attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  segment_ids: jax.Array | None = None,
  *,
  columns: jax.Array | None = None,
  mask: jax.Array | None = None,
  bias: jax.Array | None = None,
  scale: float | None = None,
  causal: bool = False,
  implementation: fused_attention.Implementation = 'auto',
  dropout: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
  """Multi-head attention within segments: [R, T, heads, width of a head].

  Args:
    query: [R, T, heads, width of a head].
    key, value: [R, L, heads, width of a head], or fewer heads: each then serves as many heads of
      queries that follow each other.
    segment_ids: [R, L]; a token sees the tokens of its own segment only. None: one segment.
    columns: [R, T], the column of each query. None: T = L and all columns in order.
    mask: bool [R, T, L], in place of segments and causality: the columns that each query sees.
    bias: float32 [R, heads, T, L], added to the scaled scores.
    scale: factor of the products of queries and keys; None: one over the square root of the width
      of a head.
    causal: whether a token sees no later column.
    implementation: `xla`, computed here; `cudnn` or `pallas`, by a kernel of an NVIDIA GPU or of a
      TPU; `auto`, by a kernel where the program's devices have one for such a call. A `mask`, as
      steps of decoding have, and few `columns` are always left to XLA.
    dropout: applied to the attention weights; no kernel does that.

  Raises:
    ValueError: if a kernel was asked for by name that cannot compute the call.
  """
  given = mask is not None
  groups = query.shape[2] // key.shape[2]
  chosen = fused_attention.choose(
    'xla' if given else implementation,
    fused_attention.Call(
      query.shape,
      key.shape,
      query.dtype,
      dropout=dropout is not None,
      whole=columns is None,
    ),
  )
  if groups > 1 and chosen != 'xla':
    key, value = (jnp.repeat(x, groups, axis=2) for x in (key, value))
  if chosen == 'pallas':
    return fused_attention.pallas(query, key, value, bias, segment_ids, scale=scale, causal=causal)
  if given:
    mask = mask[:, None]
  elif segment_ids is not None:
    own = segment_ids if columns is None else jnp.take_along_axis(segment_ids, columns, axis=1)
    mask = (own[:, :, None] == segment_ids[:, None, :])[:, None]
  if causal and columns is not None:
    seen = columns[:, None, :, None] >= jnp.arange(key.shape[1])[None, None, None, :]
    mask = seen if mask is None else mask & seen
    causal = False
  if chosen == 'cudnn':
    return fused_attention.cudnn(query, key, value, bias, mask, scale=scale, causal=causal)
  if causal:
    seen = jnp.tri(query.shape[1], key.shape[1], dtype=bool)[None, None]
    mask = seen if mask is None else mask & seen
  return _by_xla(query, key, value, bias, mask, scale=scale, dropout=dropout)


def _by_xla(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array | None,
  mask: jax.Array | None,
  *,
  scale: float | None,
  dropout: Callable[[jax.Array], jax.Array] | None,
) -> jax.Array:
  """`attention`, with a mask [R, 1, T, L] in place of segments and causality.

  The products are those of JAX's own `xla`, in an order that is faster on a CPU: it saves 4 to 18 %
  of a step in float32 (rows of 64 to 512), 5 to 14 % in bfloat16, half with a cache.
  """
  rows, length, heads, width = query.shape
  groups = heads // key.shape[2]
  if groups > 1:  # The queries that share a head of keys become rows of one product.
    query = query.reshape(rows, length, heads // groups, groups, width)
    query = query.swapaxes(2, 3).reshape(rows, length * groups, heads // groups, width)
    mask = None if mask is None else jnp.repeat(mask, groups, axis=2)
  scores = ops.dot_general(
    query, key, (((3,), (3,)), ((0, 2), (0, 2))), preferred_element_type=jnp.float32
  ) * np.float32(query.shape[-1] ** -0.5 if scale is None else scale)
  if bias is not None:
    scores += bias
  if mask is not None:
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores, axis=-1)
  if dropout:
    weights = dropout(weights)
  weights = weights.astype(value.dtype)
  y = ops.dot_general(weights, value, (((3,), (1,)), ((0, 1), (0, 2)))).swapaxes(1, 2)
  if groups > 1:
    y = y.reshape(rows, length, groups, heads // groups, width).swapaxes(2, 3)
  return y.reshape(rows, length, heads, width)


def weight_dropout(
  module: nn.Module, rate: float, deterministic: bool
) -> Callable[[jax.Array], jax.Array] | None:
  """The dropout of a module's attention weights, for `attention`; None if it is off."""
  if deterministic or rate == 0:
    return None
  return functools.partial(ops.drop, module.make_rng('dropout'), rate)


def implementation_of(module: nn.Module, options: layers.Options) -> fused_attention.Implementation:
  """The implementation that the options name; parameters are drawn by `xla`, in any shapes."""
  return 'xla' if module.is_initializing() else options.attention


class SelfAttention(nn.Module):
  """Projections, attention and the output projection; no residual, norm or dropout after it.

  Attributes:
    num_heads: of the queries.
    options: of the model.
    causal: whether a token sees no later one.
    std, output_std: deviations of the kernels as they are drawn.
    num_kv_heads, head_width: heads of keys and values, and the width of each; None: `num_heads`,
      and the input's width divided by these.
    biased, output_biased: whether the projections, and the output's, have biases.
    norm_epsilon: of the norms of each head's queries and keys; None for no norms.
  """

  num_heads: int
  options: layers.Options
  causal: bool = False
  std: float = 0.02
  output_std: float = 0.02
  num_kv_heads: int | None = None
  head_width: int | None = None
  biased: bool = True
  output_biased: bool = True
  norm_epsilon: float | None = None

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    columns: jax.Array | None,
    *,
    segment_ids: jax.Array | None = None,
    rotation: Rotation | None = None,
    cached: Cached | None = None,
    deterministic: bool,
  ) -> jax.Array:
    head_width = self.head_width or x.shape[-1] // self.num_heads
    num_kv_heads = self.num_kv_heads or self.num_heads

    def heads(name: str, x: jax.Array, count: int) -> jax.Array:
      width = count * head_width
      projected = layers.dense(width, self.options, self.std, name, biased=self.biased)(x)
      return projected.reshape(*x.shape[:-1], count, head_width)

    def placed(name: str, x: jax.Array, count: int, columns: jax.Array | None) -> jax.Array:
      y = heads(name, x, count)
      if self.norm_epsilon is not None:
        norm = layers.RMSNorm(self.norm_epsilon, self.options.dtype, name=f'{name}_norm')
        y = norm(y)
      if rotation is None:
        return y
      return ops.rotate(y, *(layers.take_columns(angle, columns) for angle in rotation))

    key = placed('key', x, num_kv_heads, None)
    value = heads('value', x, num_kv_heads)
    if self.is_mutable_collection('cache') and not self.is_initializing():
      key, value = self._keep(key, value, cached)
    y = attention(
      placed('query', layers.take_columns(x, columns), self.num_heads, columns),
      key,
      value,
      segment_ids,
      columns=columns,
      mask=None if cached is None else cached.visible,
      causal=self.causal and cached is None,
      implementation=implementation_of(self, self.options),
      dropout=weight_dropout(self, self.options.attention_dropout, deterministic),
    )
    output = layers.dense(
      x.shape[-1], self.options, self.output_std, 'output', biased=self.output_biased
    )
    return output(y.reshape(*y.shape[:-2], -1))

  def _keep(
    self, key: jax.Array, value: jax.Array, cached: Cached | None
  ) -> tuple[jax.Array, jax.Array]:
    """Puts keys and values [R, T, heads, width] into the cache; returns all that it holds.

    The cache holds keys as [R, heads, width, C] and values as [R, heads, C, width], the order in
    which a CPU multiplies them: from [R, C, heads, width] attention takes seven times as long.
    """
    bits = f'uint{8 * key.dtype.itemsize}'
    new = {'keys': key.transpose(0, 2, 3, 1), 'values': value.swapaxes(1, 2)}
    new = {name: jax.lax.bitcast_convert_type(x, bits) for name, x in new.items()}
    kept = {name: self.variable('cache', name, lambda x=x: x) for name, x in new.items()}
    if cached is not None:
      for name, axis in (('keys', 3), ('values', 2)):  # The axis of the columns.
        kept[name].value = jax.lax.dynamic_update_slice_in_dim(
          kept[name].value, new[name], cached.at, axis
        )
    keys, values = (jax.lax.bitcast_convert_type(kept[name].value, key.dtype) for name in new)
    return keys.transpose(0, 3, 1, 2), values.swapaxes(1, 2)
