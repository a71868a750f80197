"""How a pair of low-rank factors acts on each kind of Flax layer.

A weight W maps input axes to output axes; its update is the product of `a` (input axes to rank r)
and `b` (rank r to output axes). For a kernel whose axes are ordered [batch..., in..., out...]

    a: [batch..., in..., r]      b: [batch..., r, out...]

so a Dense kernel [d, k] has a [d, r] and b [r, k]; a convolution's [*window, d / groups, k] has
a [*window, d / groups, r], the same small convolution for every group, and b [r, k]; an embedding
[v, d] has a [v, r] and b [r, d]. The kernel of an `nn.Einsum` may have its axes in any order, so
there both factors keep the kernel's order and its number of axes, with 1 for the axes they lack,
and the rank last: 'BTD,NDH->BTNH' has a [1, D, 1, r] and b [N, 1, H, r].

Layers stacked by `nn.scan` or `nn.vmap` on axis 0 put the stack's axes in front of all three.
"""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import opt_einsum
from jax import lax

Shape = tuple[int, ...]


class Factors(NamedTuple):
  """Shapes of one layer's factors, not stacked; `fan_in` inputs are summed in each output."""

  a: Shape
  b: Shape
  fan_in: int


class Layer(NamedTuple):
  """What to know of a kind of layer in order to adapt it.

  Attributes:
    weight: name of the adapted parameter.
    methods: the module's methods that use it.
    factors: `factors(module, weight shape, rank, *args) -> Factors` of one layer, `args` being
      what the method is called with.
    update: `update(module, method name, a, b, *args)`: what the factors add to the output, before
      the scale.
    swap: a is zero at first and b random (loralib's embedding), not the other way round.
  """

  weight: str
  methods: tuple[str, ...]
  factors: Callable[..., Factors]
  update: Callable[..., jax.Array]
  swap: bool = False


def layer_of(module: nn.Module) -> Layer | None:
  """The entry for a module's kind, or None where factors cannot be added to it."""
  return next((layer for kind, layer in LAYERS.items() if isinstance(module, kind)), None)


def product(a: jax.Array, b: jax.Array, weight: Shape) -> jax.Array:
  """The update of a weight, `a` times `b`, in the weight's shape and float32; stacked or not.

  Raises:
    ValueError: if the factors do not fit the weight, as when layers are stacked on another axis
      than the first.
  """
  weight = tuple(weight)
  if a.ndim == len(weight) + 1:  # An einsum's factors: an axis of size 1 is one that they lack.
    axes_a, axes_b = ([i for i in range(len(weight)) if x.shape[i] != 1] for x in (a, b))
    fits = jnp.broadcast_shapes(a.shape[:-1], b.shape[:-1]) == weight
    a, b = (x.reshape([s for s in x.shape[:-1] if s != 1] + [x.shape[-1]]) for x in (a, b))
    rank = len(weight)
    operands = a, [*axes_a, rank], b, [*axes_b, rank], [i for i, s in enumerate(weight) if s != 1]
  else:
    batch = a.ndim + b.ndim - len(weight) - 2  # These axes are in both factors, the others in one.
    fits = (*a.shape[:-1], *b.shape[batch + 1 :]) == weight and b.shape[:batch] == weight[:batch]
    rank, after = len(weight), a.ndim - 1
    axes = list(range(len(weight)))
    operands = a, [*axes[:after], rank], b, [*axes[:batch], rank, *axes[after:]], axes
  if not fits:
    raise ValueError(
      f'factors {a.shape} and {b.shape} do not make an update of a weight {weight}. Stacked layers '
      'are to be stacked on axis 0 (`variable_axes={"params": 0}`).'
    )
  a, a_axes, b, b_axes, out = operands
  update = jnp.einsum(
    a.astype(jnp.float32), a_axes, b.astype(jnp.float32), b_axes, out,
    precision=lax.Precision.HIGHEST,
  )  # fmt: skip
  return update.reshape(weight)


def _ordered(n_batch: Callable[[nn.Module], int], n_out: Callable[[nn.Module], int]) -> Callable:
  """`Layer.factors` of a kernel whose axes are ordered [batch..., in..., out...]."""

  def factors(module: nn.Module, weight: Shape, rank: int, *args: Any) -> Factors:
    del args
    first, last = n_batch(module), len(weight) - n_out(module)
    batch, inputs, outputs = weight[:first], weight[first:last], weight[last:]
    return Factors((*batch, *inputs, rank), (*batch, rank, *outputs), math.prod(inputs))

  return factors


def _down(module: nn.Module, a: jax.Array, x: jax.Array, features: int) -> jax.Array:
  """The layer itself with `a` as its kernel: same axes, strides, padding, precision."""
  narrow = module.clone(features=features, use_bias=False, parent=None, name=None)
  return narrow.apply({'params': {'kernel': a}}, x)


def _dot_general(module: nn.Module) -> Callable[..., jax.Array]:
  """The product that the layer was given, so that its precision holds for the factors as well."""
  if module.dot_general_cls is not None:
    return module.dot_general_cls()
  return module.dot_general or lax.dot_general


def _dense_update(
  module: nn.Dense | nn.DenseGeneral, method: str, a: jax.Array, b: jax.Array, x: jax.Array
) -> jax.Array:
  del method
  h = _down(module, a, x, a.shape[-1])
  batch = tuple(range(_n_batch(module)))
  contract = ((h.ndim - 1,), (len(batch),))
  return _dot_general(module)(
    h, b.astype(h.dtype), (contract, (batch, batch)), precision=module.precision
  )


def _conv_update(
  module: nn.Conv, method: str, a: jax.Array, b: jax.Array, x: jax.Array
) -> jax.Array:
  del method
  groups, rank = module.feature_group_count, a.shape[-1]
  h = _down(module, jnp.tile(a, groups), x, groups * rank)
  b = b.astype(h.dtype)
  if groups == 1:
    return jnp.matmul(h, b, precision=module.precision)
  h = h.reshape(*h.shape[:-1], groups, rank)
  b = b.reshape(rank, groups, -1)
  y = jnp.einsum('...gr,rgk->...gk', h, b, precision=module.precision)
  return y.reshape(*y.shape[:-2], -1)


def _embed_update(
  module: nn.Embed, method: str, a: jax.Array, b: jax.Array, x: jax.Array
) -> jax.Array:
  dtype = module.dtype or jnp.result_type(a, *(() if method == '__call__' else (x,)))
  a, b = a.astype(dtype), b.astype(dtype)
  if method == '__call__':
    return jnp.matmul(jnp.take(a, x, axis=0), b)
  return jnp.matmul(jnp.matmul(x.astype(dtype), b.T), a.T)  # Logits of the tied embedding.


def _einsum_letters(module: nn.Einsum, x: jax.Array, equation: str | None) -> tuple[str, str, str]:
  """Letters of the input, of the kernel and of the output, with none hidden in an ellipsis."""
  equation = (module.einsum_str or equation).replace(' ', '')
  operands, output, _ = opt_einsum.parser.parse_einsum_input(
    (equation, x, jax.ShapeDtypeStruct(module.shape, x.dtype))
  )
  inputs, kernel = operands.split(',')
  return inputs, kernel, output


def _einsum_factors(
  module: nn.Einsum, weight: Shape, rank: int, x: jax.Array, einsum_str: str | None = None
) -> Factors:
  inputs, kernel, output = _einsum_letters(module, x, einsum_str)
  a = tuple(size if letter in inputs else 1 for letter, size in zip(kernel, weight))
  b = tuple(size if letter in output else 1 for letter, size in zip(kernel, weight))
  contracted = (size for letter, size in zip(kernel, weight) if letter not in output)
  return Factors((*a, rank), (*b, rank), math.prod(contracted))


def _einsum_update(
  module: nn.Einsum,
  method: str,
  a: jax.Array,
  b: jax.Array,
  x: jax.Array,
  einsum_str: str | None = None,
) -> jax.Array:
  del method
  inputs, kernel, output = _einsum_letters(module, x, einsum_str)
  rank = next(letter for letter in string.ascii_letters if letter not in inputs + kernel + output)
  in_a = ''.join(letter for letter in kernel if letter in inputs)
  in_b = ''.join(letter for letter in kernel if letter in output)
  a = a.reshape([s for s, letter in zip(a.shape, kernel) if letter in inputs] + [a.shape[-1]])
  b = b.reshape([s for s, letter in zip(b.shape, kernel) if letter in output] + [b.shape[-1]])
  # Input letters that the equation sums out by itself, without the kernel, are summed here.
  kept = ''.join(letter for letter in inputs if letter in output)
  einsum = functools.partial(
    jnp.einsum,
    precision=module.precision,
    preferred_element_type=module.preferred_element_type,
  )
  x, a, b = module.promote_dtype(x, a, b, dtype=module.dtype)
  h = einsum(f'{inputs},{in_a}{rank}->{kept}{rank}', x, a)
  return einsum(f'{kept}{rank},{in_b}{rank}->{output}', h, b)


def _n_batch(module: nn.Module) -> int:
  batch = getattr(module, 'batch_dims', ())
  return 1 if isinstance(batch, int) else len(batch)


def _n_out(module: nn.Module) -> int:
  return 1 if isinstance(module.features, int) else len(module.features)


LAYERS: dict[type[nn.Module], Layer] = {
  nn.Dense: Layer('kernel', ('__call__',), _ordered(_n_batch, _n_out), _dense_update),
  nn.DenseGeneral: Layer('kernel', ('__call__',), _ordered(_n_batch, _n_out), _dense_update),
  nn.Conv: Layer('kernel', ('__call__',), _ordered(_n_batch, _n_out), _conv_update),
  nn.Einsum: Layer('kernel', ('__call__',), _einsum_factors, _einsum_update),
  nn.Embed: Layer(
    'embedding', ('__call__', 'attend'), _ordered(_n_batch, _n_out), _embed_update, swap=True
  ),
}
