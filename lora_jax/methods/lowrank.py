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

import math
import string
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import opt_einsum
from jax import lax
from jaxtyping import Float

from lora_jax import ops
from lora_jax.methods.interception import Args, Kwargs

FACTORS = ('lora_a', 'lora_b')  # Names of the leaves.
# Of the leaves whose product is subtracted, so that the update starts at zero.
START = ('lora_a0', 'lora_b0')
MAGNITUDE = 'lora_m'  # Of DoRA.
# Ranks up to this one share a program of a sweep, padded to it: 2 r / d of the products with a
# matrix of width d. A larger rank is padded to less than twice itself.
SMALL_RANK = 64
USES = ('__call__', 'attend')  # Methods of all kinds of layers that use their weight.
STACKED = 'Layers that are stacked must be stacked on axis 0 (`variable_axes={"params": 0}`).'
Shape = tuple[int, ...]
Factor = Float[jax.Array | np.ndarray, '...']  # The docstring above says which axes it has.


class Factors(NamedTuple):
  """Shapes of one layer's factors, not stacked; `fan_in` inputs are summed in each output."""

  a: Shape
  b: Shape
  fan_in: int


class Layer(NamedTuple):
  """What to know of a kind of layer in order to adapt it.

  Attributes:
    weight: name of the adapted parameter.
    methods: names of the module's methods that use the weight.
    factors: `factors(module, weight shape, rank, *args) -> Factors` of one layer, `args` being what
      the method is called with.
    update: `update(module, method name, a, b, *args)`: what the factors add to the method's output,
      before the scale.
    transposed: the factors change roles at initialization, as in loralib's embedding: `a` is zero
      and `b` random.
    matrix: whether the weight is a matrix, its rows the inputs, unless the layer has a batch.
  """

  weight: str
  methods: tuple[str, ...]
  factors: Callable[..., Factors]
  update: Callable[..., jax.Array]
  transposed: bool = False
  matrix: bool = False


def layer_of(module: nn.Module) -> Layer | None:
  """The entry for a module's kind, or None if factors cannot be added to it.

  A subclass that computes something of its own with the weight is no such kind: what the factors
  would add to its output is not what they add to its weight, and where it calls `super` they would
  be added twice.
  """
  if has_own_call(module):
    return None
  return next((layer for kind, layer in LAYERS.items() if isinstance(module, kind)), None)


def has_own_call(module: nn.Module) -> bool:
  """Whether a module is of a subclass of a known kind that uses the weight in a way of its own.

  A class that computes the same with other casts, and does not call `super`, says so by
  `computes_as_its_base = True`. (Inside `nn.remat`, `nn.vmap` and the like is the class itself.)
  """
  if not isinstance(module, tuple(LAYERS)):
    return False
  for kind in type(module).__mro__:
    if kind in LAYERS or vars(kind).get('computes_as_its_base'):
      return False
    if any(name in vars(kind) for name in USES):
      return True
  return False


def arguments(args: Args, kwargs: Kwargs) -> Args:
  """A layer's arguments in order: its input first, then an einsum's equation."""
  return (*args, *(kwargs[name] for name in ('inputs', 'query', 'einsum_str') if name in kwargs))


def fits(a: Shape, b: Shape, weight: Shape) -> bool:
  """Whether factors of these shapes make an update of a weight; see `product`."""
  if len(a) == len(weight) + 1:  # An einsum's factors: an axis of size 1 is one that they lack.
    fitting = ({x, y} <= {1, size} and size in (x, y) for x, y, size in zip(a, b, weight))
    return len(a) == len(b) and a[-1] == b[-1] and all(fitting)
  batch = len(a) + len(b) - len(weight) - 2  # These axes are in both, the others in one.
  return (*a[:-1], *b[batch + 1 :]) == weight and b[: batch + 1] == (*weight[:batch], a[-1])


def product(a: Factor, b: Factor, weight: Shape) -> jax.Array:
  """The update of a weight, `a` times `b`, in the weight's shape and float32; stacked or not.

  Raises:
    ValueError: if the factors do not fit the weight, as when layers are stacked on another axis
      than the first.
  """
  weight = tuple(weight)
  axes, rank = list(range(len(weight))), len(weight)  # The label of each axis of an einsum.
  if not fits(a.shape, b.shape, weight):
    raise ValueError(
      f'factors {a.shape} and {b.shape} do not make an update of a weight {weight}. {STACKED}'
    )
  if a.ndim == len(weight) + 1:
    a_axes, b_axes = ([i for i in axes if x.shape[i] != 1] for x in (a, b))
    a, b = (x.reshape([s for s in x.shape[:-1] if s != 1] + [x.shape[-1]]) for x in (a, b))
    a_axes, b_axes, axes = [*a_axes, rank], [*b_axes, rank], [i for i in axes if weight[i] != 1]
  else:
    batch, outputs = a.ndim + b.ndim - len(weight) - 2, axes[a.ndim - 1 :]
    a_axes, b_axes = [*axes[: a.ndim - 1], rank], [*axes[:batch], rank, *outputs]
  a, b = a.astype(jnp.float32), b.astype(jnp.float32)
  update = jnp.einsum(a, a_axes, b, b_axes, axes, precision=lax.Precision.HIGHEST)
  return update.reshape(weight)


def padded_rank(rank: int | Mapping[str, int]) -> int:
  """The rank to which the members of a sweep that share a program are padded."""
  largest = max(rank.values()) if isinstance(rank, Mapping) else rank
  return max(SMALL_RANK, 1 << (largest - 1).bit_length())


def _ordered_factors(module: nn.Module, weight: Shape, rank: int, *args: object) -> Factors:
  """The factors of a kernel whose axes are ordered [batch..., in..., out...]."""
  del args
  first, last = _n_batch(module), len(weight) - _n_out(module)
  batch, inputs, outputs = weight[:first], weight[first:last], weight[last:]
  return Factors((*batch, *inputs, rank), (*batch, rank, *outputs), math.prod(inputs))


def _down(module: nn.Module, a: Factor, x: jax.Array, features: int, **product: Any) -> Any:
  """The layer itself with `a` as its kernel: same axes, strides, padding, precision."""
  narrow = module.clone(features=features, use_bias=False, parent=None, name=None, **product)
  return narrow.apply({'params': {'kernel': a}}, x)


def _dense_update(
  module: nn.Dense | nn.DenseGeneral,
  method: str,
  a: Factor,
  b: Factor,
  x: jax.Array,
  between: jax.Array | None = None,
) -> jax.Array:
  """x a b, or x a diag(between) b."""
  del method
  # A product that the layer was given has its own precision, which holds for the factors as well.
  given = module.dot_general_cls() if module.dot_general_cls else module.dot_general
  dot_general = given or ops.dot_general
  h = _down(module, a, x, a.shape[-1], dot_general=dot_general, dot_general_cls=None)
  if between is not None:
    h *= jnp.expand_dims(between, tuple(range(h.ndim - 1))).astype(h.dtype)
  batch = tuple(range(_n_batch(module)))
  contract = ((h.ndim - 1,), (len(batch),))
  return dot_general(h, b.astype(h.dtype), (contract, (batch, batch)), precision=module.precision)


def _conv_update(module: nn.Conv, method: str, a: Factor, b: Factor, x: jax.Array) -> jax.Array:
  del method
  groups, rank = module.feature_group_count, a.shape[-1]
  product = {}
  if not (module.conv_general_dilated or module.conv_general_dilated_cls):
    product['conv_general_dilated'] = ops.conv_general_dilated
  h = _down(module, jnp.tile(a, groups), x, groups * rank, **product)
  b = b.astype(h.dtype)
  if groups == 1:
    return ops.matmul(h, b, module.precision)
  h = h.reshape(*h.shape[:-1], groups, rank)
  b = b.reshape(rank, groups, -1)
  y = ops.einsum('...gr,rgk->...gk', h, b, precision=module.precision)
  return y.reshape(*y.shape[:-2], -1)


def _embed_update(module: nn.Embed, method: str, a: Factor, b: Factor, x: jax.Array) -> jax.Array:
  dtype = module.dtype or jnp.result_type(a, *(() if method == '__call__' else (x,)))
  a, b = a.astype(dtype), b.astype(dtype)
  if method == '__call__':
    return ops.matmul(jnp.take(a, x, axis=0), b)
  # The logits of a tied embedding; they may be float32 where the layers compute in a lower dtype.
  h = ops.matmul(x.astype(dtype), b.T)
  dims = (((h.ndim - 1,), (1,)), ((), ()))
  return ops.dot_general(h, a, dims, preferred_element_type=jnp.float32)


def _einsum_letters(module: nn.Einsum, x: jax.Array, equation: str | None) -> tuple[str, str, str]:
  """Letters of the input, of the kernel and of the output, with none hidden in an ellipsis."""
  equation = (module.einsum_str or equation or '').replace(' ', '')
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
  module: nn.Einsum, method: str, a: Factor, b: Factor, x: jax.Array, einsum_str: str | None = None
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
  options = {'precision': module.precision, 'preferred_element_type': module.preferred_element_type}
  *down, up = module.promote_dtype(x, jnp.asarray(a), jnp.asarray(b), dtype=module.dtype)
  h = ops.einsum(f'{inputs},{in_a}{rank}->{kept}{rank}', *down, **options)
  return ops.einsum(f'{kept}{rank},{in_b}{rank}->{output}', h, up, **options)


def _n_batch(module: nn.Module) -> int:
  batch = getattr(module, 'batch_dims', ())
  return 1 if isinstance(batch, int) else len(batch)


def _n_out(module: nn.Module) -> int:
  features = module.features
  return 1 if isinstance(features, int) else len(features)


CALL = ('__call__',)
LAYERS: dict[type[nn.Module], Layer] = {
  nn.Dense: Layer('kernel', CALL, _ordered_factors, _dense_update, matrix=True),
  nn.DenseGeneral: Layer('kernel', CALL, _ordered_factors, _dense_update, matrix=True),
  nn.Conv: Layer('kernel', CALL, _ordered_factors, _conv_update),
  nn.Einsum: Layer('kernel', CALL, _einsum_factors, _einsum_update),
  nn.Embed: Layer('embedding', (*CALL, 'attend'), _ordered_factors, _embed_update, transposed=True),
}
WEIGHTS = tuple(dict.fromkeys(layer.weight for layer in LAYERS.values()))  # Names of the leaves.
