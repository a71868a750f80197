"""What every model here is built of: options, embeddings, norms, dropout, the MLP, the layer stack.

Parameters of norms and heads are float32; `ops` says what is computed in float32. What passes
between layers has the compute dtype.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from lora_jax import ops, stacking
from lora_jax.models import fused_attention

REMAT = {
  'none': None,
  'full': jax.checkpoint_policies.nothing_saveable,
  # Keeps the outputs of dense layers, and computes attention and activations again. JAX's own
  # policies do not see into the custom VJP of low-precision products, so those outputs have a name.
  'dots': jax.checkpoint_policies.save_only_these_names('dense'),
}
T = TypeVar('T')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How a model runs, as opposed to its architecture; the same parameters serve every choice.

  `dtype` is the dtype of computation, `param_dtype` that of the embeddings and kernels. `attention`
  is `auto`, the kernel that the devices have for a call, otherwise XLA; `xla`, `cudnn` (NVIDIA
  GPUs) and `pallas` (TPUs) are choices by name, refused where they cannot be had
  (`models/fused_attention.py`).
  """

  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32
  scan: bool = False
  remat: str = 'none'
  attention: fused_attention.Implementation = 'auto'
  embedding_dropout: float = 0.0
  hidden_dropout: float = 0.0
  attention_dropout: float = 0.0

  def __post_init__(self) -> None:
    for name in ('dtype', 'param_dtype'):
      object.__setattr__(self, name, _float_dtype(name, getattr(self, name)))
    for name, allowed in (('remat', tuple(REMAT)), ('attention', fused_attention.IMPLEMENTATIONS)):
      if getattr(self, name) not in allowed:
        raise ValueError(f'{name}={getattr(self, name)!r}: choose one of {", ".join(allowed)}')
    for name in ('embedding_dropout', 'hidden_dropout', 'attention_dropout'):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)!r}: a dropout rate lies in [0, 1)')


def _float_dtype(name: str, value: DTypeLike) -> jnp.dtype:
  try:
    dtype = jnp.dtype(value)
  except TypeError:
    dtype = None
  if dtype is None or dtype not in (jnp.float32, *ops.LOW):
    raise ValueError(f'{name}={value!r}: choose one of float32, bfloat16, float16')
  return dtype


class Transformer(nn.Module):
  """The attributes that all models share: an architecture, and how it runs (see `Options`).

  Dropout rates that are None are the configuration's own. `hidden_dropout` stands for the rates of
  the embeddings and of the residual branches.
  """

  config: Any
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32
  scan: bool = False
  remat: str = 'none'
  attention: fused_attention.Implementation = 'auto'
  hidden_dropout: float | None = None
  attention_dropout: float | None = None

  @property
  def options(self) -> Options:
    """The options of all layers.

    Raises:
      ValueError: for a kernel by name that does not compute in the dtype.
    """
    c, hidden = self.config, self.hidden_dropout
    options = Options(
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      scan=self.scan,
      remat=self.remat,
      attention=self.attention,
      embedding_dropout=first(hidden, getattr(c, 'embedding_dropout', c.hidden_dropout)),
      hidden_dropout=first(hidden, c.hidden_dropout),
      attention_dropout=first(self.attention_dropout, c.attention_dropout),
    )
    if refusal := fused_attention.dtype_refusal(options.attention, options.dtype):
      raise ValueError(f'attention={options.attention!r} {refusal}')
    return options


def first(*values: T | None) -> T:
  """The first value that is not None; one has to be."""
  return next(value for value in values if value is not None)


class Embed(nn.Embed):
  """`nn.Embed` that casts the looked-up rows, not the whole table, and attends in float32."""

  computes_as_its_base = True  # So methods can adapt it.

  def __call__(self, inputs: jax.Array) -> jax.Array:
    if self.num_embeddings == 1:
      return jnp.broadcast_to(self.embedding[0], (*inputs.shape, self.features)).astype(self.dtype)
    return jnp.take(self.embedding, inputs, axis=0).astype(self.dtype)

  def attend(self, query: jax.Array) -> jax.Array:
    """Float32 logits [..., num_embeddings] of `query` [..., features]."""
    table = self.embedding.astype(self.dtype)
    dims = (((query.ndim - 1,), (1,)), ((), ()))
    return ops.dot_general(query, table, dims, preferred_element_type=jnp.float32)


def dense(
  features: int,
  options: Options,
  std: float,
  name: str,
  *,
  biased: bool = True,
  result_dtype: DTypeLike | None = None,
) -> nn.Dense:
  """A dense layer whose kernel is drawn from N(0, std^2), its bias zero.

  Args:
    features: its width.
    options: of the model.
    std: the deviation.
    name: the module's.
    biased: whether it has a bias.
    result_dtype: of the result, for a layer without bias; None is the compute dtype.
  """
  return nn.Dense(
    features,
    use_bias=biased,
    dtype=options.dtype,
    param_dtype=options.param_dtype,
    kernel_init=nn.initializers.normal(std),
    dot_general=functools.partial(ops.dot_general, preferred_element_type=result_dtype)
    if result_dtype
    else ops.dot_general,
    name=name,
  )


def embed(rows: int, features: int, options: Options, std: float, name: str | None = None) -> Embed:
  """An embedding table drawn from N(0, std^2). In `setup` the attribute gives it its name."""
  return Embed(
    rows,
    features,
    dtype=options.dtype,
    param_dtype=options.param_dtype,
    embedding_init=nn.initializers.normal(std),
    name=name,
  )


class Norm(nn.Module):
  """The scale and the bias of a layer normalization that is computed elsewhere."""

  width: int

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array]:
    scale = self.param('scale', nn.initializers.ones, (self.width,), jnp.float32)
    return scale, self.param('bias', nn.initializers.zeros, (self.width,), jnp.float32)


class LayerNorm(nn.Module):
  """`ops.normalize` with a scale and a bias of its own."""

  epsilon: float
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],), jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],), jnp.float32)
    return ops.normalize(x, scale, bias, self.epsilon, self.dtype)


class RMSNorm(nn.Module):
  """`ops.rms_normalize` with a scale of its own."""

  epsilon: float
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],), jnp.float32)
    return ops.rms_normalize(x, scale, self.epsilon, self.dtype)


class Dropout(nn.Module):
  """Dropout with keys from the rng stream `dropout`; without a rate it needs no key."""

  rate: float

  def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
    if deterministic or self.rate == 0:
      return x
    return ops.drop(self.make_rng('dropout'), self.rate, x)


class Branch(nn.Module):
  """The output of a sub-layer before it is added to the residual stream: dropout.

  It is a module of its own so that methods can put an adapter there (`methods/bottleneck.py`).
  """

  rate: float

  def __call__(
    self,
    x: jax.Array,
    *,
    deterministic: bool,
    added: Callable[[jax.Array], jax.Array] | None = None,
  ) -> jax.Array:
    """Dropout of `x`. `added(x)` is the layer's output for x: the sum with the stream, normalized.

    The branch does not use `added`: adapters that read this sum do.
    """
    del added
    if deterministic or self.rate == 0:
      return x
    return ops.drop(self.make_rng('dropout'), self.rate, x)


class MLP(nn.Module):
  """Two dense layers with an activation between them."""

  width: int
  activation: str
  options: Options
  std: float = 0.02
  output_std: float = 0.02

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    h = dense(self.width, self.options, self.std, 'up')(x)
    h = ops.activate(ops.ACTIVATIONS[self.activation], h)
    return dense(x.shape[-1], self.options, self.output_std, 'down')(h)


def take_columns(x: jax.Array, columns: jax.Array | None) -> jax.Array:
  """x [R, L, width] at columns [R, E]: [R, E, width]; all of `x` for None."""
  return x if columns is None else jnp.take_along_axis(x, columns[:, :, None], axis=1)


def positions(
  input_ids: jax.Array, segment_ids: jax.Array | None, position_ids: jax.Array | None, limit: int
) -> jax.Array:
  """Position ids [R, L]. If none are given they start at 0 with each row and each segment.

  Raises:
    ValueError: if rows that hold one sequence each are longer than the model's positions. (Ids are
      not known when a model is traced; one that is out of range gives NaN.)
  """
  if position_ids is not None:
    return position_ids
  rows, length = input_ids.shape
  columns = lax.broadcasted_iota(jnp.int32, (rows, length), 1)
  if segment_ids is None:
    if length > limit:
      raise ValueError(
        f'input_ids {input_ids.shape}: rows of {length} tokens, but the model has {limit} '
        'positions. Cut the sequences, or pack shorter ones with segment_ids.'
      )
    return columns
  starts = jnp.pad(segment_ids[:, 1:] != segment_ids[:, :-1], ((0, 0), (1, 0)))
  restarted = columns - lax.cummax(jnp.where(starts, columns, 0), axis=1)
  # Padding may be longer than the table, and NaN times a weight of zero is NaN.
  return jnp.where(segment_ids == 0, 0, restarted)


class Stack(nn.Module):
  """`num_layers` equal layers: `layers_0`, `layers_1`, ..., or one `layers` stacked on axis 0.

  `layer(name)` makes a layer, which is called with (x, columns, **inputs). Methods that replace the
  input of a layer read `virtual` among these inputs. If layers are looped, the last one gets
  `columns` and computes no others. If they are stacked, the columns are taken from the output of
  the last. The collection `cache` is stacked on axis 1: its axis 0 are the rows.

  `after_first`, a function without parameters, is applied to the output of the first layer.
  """

  layer: Callable[[str], nn.Module]
  num_layers: int
  options: Options

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    columns: jax.Array | None,
    *,
    after_first: Callable[[jax.Array], jax.Array] | None = None,
    **inputs: Any,
  ) -> jax.Array:
    after = after_first or (lambda x: x)

    def call(
      layer: Callable[..., jax.Array],
      x: jax.Array,
      columns: jax.Array | None = None,
      index: jax.Array | None = None,
    ) -> jax.Array:
      x = layer(x, columns, **inputs)
      return x if index is None else lax.cond(index == 0, after, lambda x: x, x)

    policy = REMAT[self.options.remat]
    if policy is not None:
      # Inside a scan nothing can be merged with the forward pass, so no barrier is needed.
      call = nn.remat(call, policy=policy, prevent_cse=not self.options.scan)
    if not self.options.scan:
      whole = after_first and self.num_layers == 1
      early = None if whole else columns
      for i in range(self.num_layers):
        layer = self.layer(stacking.looped_name(i))
        x = call(layer, x, early if i == self.num_layers - 1 else None)
        if i == 0:
          x = after(x)
      return x if early is not None else take_columns(x, columns)
    scanned = nn.scan(
      lambda layer, x, index: (call(layer, x, None, index), None),
      variable_axes={'params': 0, 'cache': 1},
      split_rngs={'params': True, 'dropout': True},
      length=self.num_layers,
    )
    indices = None if after_first is None else jnp.arange(self.num_layers)
    x, _ = scanned(self.layer(stacking.SCANNED), x, indices)
    return take_columns(x, columns)
