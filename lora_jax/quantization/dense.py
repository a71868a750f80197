"""Products with quantized kernels, of which at most `LIMIT` weights are dequantized at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from lora_jax import ops, tree
from lora_jax.quantization.base import kernels
from lora_jax.quantization.kernel import Blocks, Kernel, dequantize

LIMIT = 2**22  # Weights that are dequantized at a time.
PRODUCTS = (None, lax.dot_general, ops.dot_general)  # Those of a layer that `product` stands for.


@jax.custom_vjp
def product(x: jax.Array, kernel: Kernel) -> jax.Array:
  """x [..., d] times a kernel [d, k]: [..., k] in the dtype of x, accumulated in float32.

  The kernel has no gradient. Of all arrays the gradient of x takes its codes and scales alone.
  """
  return _product(x, kernel, axis=1)


def _forward(x: jax.Array, kernel: Kernel) -> tuple[jax.Array, Kernel]:
  return product(x, kernel), kernel


def _backward(kernel: Kernel, g: jax.Array) -> tuple[jax.Array, None]:
  return _product(g, kernel, axis=0), None


product.defvjp(_forward, _backward)


def interceptor(
  next_fun: Callable[..., object],
  args: tuple[object, ...],
  kwargs: Mapping[str, object],
  context: nn.module.InterceptorContext,
) -> object:
  """Computes a dense layer with a quantized kernel, whose own call would ask for an array.

  It calls nothing inside of it, so it acts as the innermost interceptor alone: another one inside
  would be left out without a word. Then the layer's own call says that a kernel is not an array.

  Raises:
    ValueError: naming a kernel that is read by a module of another kind, by a product that the
      layer was given, or after something changed it. The module's own call would fail on it
      somewhere inside of Flax, or of the module, without its path; or give other numbers.
  """
  module = context.module
  is_innermost = next_fun is context.orig_method
  # These two change the parameters of a layer before it reads them.
  norms = isinstance(module, nn.WeightNorm | nn.SpectralNorm)
  owner = module.layer_instance if norms else module
  own = owner.variables.get('params', {}) if owner.scope else {}
  coded = {name: leaf for name, leaf in own.items() if isinstance(leaf, Kernel)}
  for name, kernel in coded.items():
    if problem := _problem(module, kernel):
      raise ValueError(
        f'{"/".join((*owner.path, name))} {kernel.shape} is quantized ({kernel.format}), but '
        f'{problem}. Leave it out of the `patterns` of quantization.quantize.'
      )
  if not coded or context.method_name != '__call__' or not is_innermost:
    return next_fun(*args, **kwargs)
  kernel = coded['kernel']
  (x,) = map(jnp.asarray, (*args, *kwargs.values()))
  # A product of `ops` for a result of another dtype is computed in that.
  wanted = getattr(module.dot_general, 'keywords', {}).get('preferred_element_type')
  dtype = wanted or module.dtype or jnp.result_type(x, kernel.dtype)
  y = checkpoint_name(product(x.astype(dtype), kernel), 'dense')
  if not module.use_bias:
    return y
  bias = jnp.asarray(module.get_variable('params', 'bias'), dtype)
  return y + jnp.expand_dims(bias, tuple(range(y.ndim - 1)))


def _problem(module: nn.Module, kernel: Kernel) -> str:
  """Why a module does not compute with a quantized kernel; '' if it does."""
  kind = type(module)
  # A subclass with a call of its own computes something else.
  if not isinstance(module, nn.Dense) or kind.__call__ is not nn.Dense.__call__:
    return (
      f'it is read by a module of the type {kind.__name__}: only nn.Dense and nnx.Linear, without '
      'a call of their own, compute with a quantized kernel'
    )
  given = module.dot_general_cls or module.dot_general
  if isinstance(given, functools.partial):
    given = given.func if given.func is ops.dot_general else given
  if given not in PRODUCTS:
    return 'it is read by a layer with a dot_general of its own, which takes arrays and not codes'
  if module.precision is not None:
    return 'it is read by a layer with a precision of its own, which would be ignored'
  if not jnp.issubdtype(kernel.arrays['codes'].dtype, jnp.integer):
    return 'its codes are changed before the layer reads them, as by nn.map_variables'
  return ''


def needed(frozen: tree.Params) -> Callable[..., object] | None:
  """The interceptor, if there are quantized kernels in the frozen part of a model."""
  return interceptor if kernels(frozen) else None


def _product(x: jax.Array, kernel: Kernel, axis: int) -> jax.Array:
  """x times the kernel for axis 1, x times its transpose for axis 0: the axis of the result.

  The parts of that axis are computed one after the other.
  """
  blocks = Blocks.of(kernel)
  blocks = dataclasses.replace(blocks, codes=_after(blocks.codes, x))
  cut = blocks.cut(axis, LIMIT)
  if axis == 1 and blocks.inputs != kernel.rows:
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, blocks.inputs - kernel.rows)])

  def part(number: jax.Array) -> jax.Array:
    weights = dequantize(blocks.part(cut, number) if cut.parts > 1 else blocks, x.dtype)
    dims = (((x.ndim - 1,), (1 - axis,)), ((), ()))
    return lax.dot_general(x, weights, dims, preferred_element_type=jnp.float32).astype(x.dtype)

  if cut.parts > 1:
    y = cut.join(lax.map(part, jnp.arange(cut.parts)))
  else:
    y = part(jnp.zeros((), jnp.int32))
  return y[..., : kernel.rows] if axis == 0 else y


@jax.custom_batching.custom_vmap
def _after(codes: jax.Array, x: jax.Array) -> jax.Array:
  """The codes, from which nothing can be computed before x is there.

  Otherwise XLA dequantizes the kernels of all layers before a loop over batches, or once for both
  passes, and keeps them. A barrier prevents that, except on a CPU, whose compiler removes barriers
  early: there a number computed from x, which is always 0, is added to the codes. On several
  devices that number has to be sent from one to all.
  """

  def by_value(codes: jax.Array, x: jax.Array) -> jax.Array:
    first = x[(slice(1),) * x.ndim].astype(jnp.float32).sum()  # 0 of an empty batch.
    return codes + jnp.minimum(jnp.abs(first), 0).astype(codes.dtype)

  barrier = lambda codes, x: lax.optimization_barrier((codes, x))[0]
  return lax.platform_dependent(codes, x, cpu=by_value, default=barrier)


@_after.def_vmap
def _after_of_members(
  size: int, batched: Sequence[bool], codes: jax.Array, x: jax.Array
) -> tuple[jax.Array, bool]:
  """Members share the codes: the first one's x stands for all."""
  del size
  if batched[0]:
    return jax.vmap(lambda codes: _after(codes, x[0] if batched[1] else x))(codes), True
  return _after(codes, x[0]), False
