"""Adapters: small bottlenecks in a frozen model, y + W_up f(W_down h), in the paper's four kinds.

An adapter sits after a whole block, or where the model names a place for it: `Branch` in
`models/layers.py` is the output of a sub-layer before it is added to the residual stream. W_up is
zero at initialization, so that the adapted model is the base model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lora_jax import ops, stacking, tree
from lora_jax.methods import added
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.interception import Args, Context, Kwargs, Next
from lora_jax.methods.models import Model
from lora_jax.methods.options import recorded

NAME = 'adapter'
ATTENTION, MLP = r'(.*/)?attention_branch', r'(.*/)?mlp_branch'
ACTIVATIONS = {'relu': jax.nn.relu, 'silu': jax.nn.silu, 'gelu': jax.nn.gelu, 'tanh': jnp.tanh}


@recorded
def adapter_h(
  *,
  bottleneck: int,
  targets: str | Sequence[str] = (ATTENTION, MLP),
  train: str | Sequence[str] = (),
  activation: str = 'silu',
) -> Method:
  """Houlsby et al. (2019), Adapter-H: after attention and after the MLP, before the residual.

  Args:
    bottleneck: r, the width in the middle.
    targets: patterns of the modules whose output is adapted; those of this project's models.
    train: patterns of further leaves that are trained, the task head for instance.
    activation: `silu`, as the authors' code has it, `relu`, `gelu` or `tanh`.

  Raises:
    ValueError: for an option out of range; from `init`, for a pattern that matches nothing.
  """
  return _adapter('adapter_h', bottleneck, targets, train, activation)


@recorded
def adapter_l(
  *,
  bottleneck: int,
  targets: str | Sequence[str] = stacking.LAYER,
  train: str | Sequence[str] = (),
  activation: str = 'relu',
) -> Method:
  """Lin et al. (2020), Adapter-L: after each block, behind a trained LayerNorm of its own.

  Args:
    bottleneck, targets, train, activation: as for `adapter_h`.

  Raises:
    ValueError: as for `adapter_h`.
  """
  return _adapter('adapter_l', bottleneck, targets, train, activation, norm=True)


@recorded
def adapter_p(
  *,
  bottleneck: int,
  targets: str | Sequence[str] = MLP,
  train: str | Sequence[str] = (),
  activation: str = 'relu',
) -> Method:
  """Pfeiffer et al. (2021), Adapter-P: after the MLP.

  In a model that normalizes after the residual sum (BERT, RoBERTa) the adapter reads that
  normalized sum and adds to the MLP's output, which is then summed and normalized again, as in the
  authors' configuration. In GPT-2 it reads the MLP's output.

  Args:
    bottleneck, targets, train, activation: as for `adapter_h`.

  Raises:
    ValueError: as for `adapter_h`.
  """
  return _adapter('adapter_p', bottleneck, targets, train, activation, reads_sum=True)


@recorded
def adapter_d(
  *,
  bottleneck: int,
  drop: int = 0,
  targets: str | Sequence[str] = MLP,
  train: str | Sequence[str] = (),
  activation: str = 'relu',
) -> Method:
  """Rücklé et al. (2021), Adapter-D: Adapter-P without the adapters of the lowest layers.

  Args:
    drop: number of lowest layers without an adapter. 0 gives the count that the paper prints.
    bottleneck, targets, train, activation: as for `adapter_h`.

  Raises:
    ValueError: as for `adapter_h`; from `init`, if layers are scanned: their adapters are one
      array, of which none can be left out.
  """
  if not isinstance(drop, int) or drop < 0:
    raise ValueError(f'adapter_d: drop={drop!r}: expected a number of layers from 0 up')
  return _adapter('adapter_d', bottleneck, targets, train, activation, reads_sum=True, drop=drop)


def _adapter(
  name: str,
  bottleneck: int,
  targets: str | Sequence[str],
  train: str | Sequence[str],
  activation: str,
  *,
  norm: bool = False,
  reads_sum: bool = False,
  drop: int = 0,
) -> Method:
  targets, train = tree.as_patterns(targets), tree.as_patterns(train)
  if not isinstance(bottleneck, int) or bottleneck < 1:
    raise ValueError(f'{name}: bottleneck={bottleneck!r}: expected a whole number from 1 up')
  if activation not in ACTIVATIONS:
    raise ValueError(f'{name}: activation={activation!r}: choose one of {", ".join(ACTIVATIONS)}')

  def shapes(call: added.Call) -> Mapping[str, added.Shape]:
    if drop and _layer(name, call.path) < drop:
      return {}
    return _shapes(call.output.shape[-1], bottleneck, norm)

  def init(
    key: jax.Array, model: Model, params: Params, *inputs: Any, **kwargs: Any
  ) -> tuple[Tree, Tree]:
    found = added.find(name, NAME, shapes, model, inputs, kwargs, targets)
    if not found:
      raise ValueError(f'{name}: drop={drop} leaves no adapter; the model has fewer layers')
    frozen, chosen = tree.split(nn.unbox(params), train)
    return frozen, tree.join(chosen, tree.unflatten(added.draw(key, found, _initial)))

  def interceptor(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    y = next_fun(*args, **kwargs)
    module = context.module
    if context.method_name != '__call__' or not module.has_variable('params', NAME):
      return y
    parts = module.get_variable('params', NAME)
    h = kwargs['added'](y) if reads_sum and kwargs.get('added') else y
    if norm:
      h = _layer_norm(h, parts['norm'])
    h = _dense(h, parts['down'])
    h = ACTIVATIONS[activation](h.astype(jnp.float32)).astype(h.dtype)
    return y + _dense(h, parts['up'])

  def merge(frozen: Params, trainable: Params) -> Tree:
    raise ValueError(
      f'{name} has a nonlinearity between its matrices: no weights of the base model compute it. '
      'Serve the adapted model with `bind`.'
    )

  return Method(
    init=init,
    merge=merge,
    interceptor=interceptor,
    patterns=(*targets, *train),
    program=(name, bottleneck, targets, train, activation, drop),
  )


def _shapes(width: int, bottleneck: int, norm: bool) -> dict[str, added.Shape]:
  """Shapes of one adapter by the paths of its leaves."""
  shapes = {f'down/{name}': shape for name, shape in _dense_shapes(width, bottleneck)}
  shapes |= {f'up/{name}': shape for name, shape in _dense_shapes(bottleneck, width)}
  return shapes | ({'norm/scale': (width,), 'norm/bias': (width,)} if norm else {})


def _dense_shapes(inputs: int, outputs: int) -> tuple[tuple[str, added.Shape], ...]:
  return ('kernel', (inputs, outputs)), ('bias', (outputs,))


def _layer(name: str, path: str) -> int:
  """The number of the layer that a path lies in."""
  index = stacking.layer_index(path)
  if index is None:
    raise ValueError(
      f'{name}: drop needs numbered layers, but {path!r} holds all layers in one array. Load the '
      'model looped (scan=False).'
    )
  return index


def _initial(path: str, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
  """W_up and biases zero, W_down of standard deviation 0.02, the norm at identity."""
  if path.endswith('down/kernel'):
    return 0.02 * jax.random.normal(key, shape, jnp.float32)
  return (jnp.ones if path.endswith('norm/scale') else jnp.zeros)(shape, jnp.float32)


def _dense(x: Float[Array, '... n'], parts: Mapping[str, jax.Array]) -> Float[Array, '... k']:
  kernel, bias = (parts[name].astype(x.dtype) for name in ('kernel', 'bias'))
  return ops.matmul(x, kernel) + jnp.expand_dims(bias, range(x.ndim - 1))


def _layer_norm(x: Float[Array, '... n'], parts: Mapping[str, jax.Array]) -> Float[Array, '... n']:
  """Layer normalization in float32, with torch's epsilon.

  The variance is computed in one pass, unlike that of `ops.normalize`: the committed results are.
  """
  y = jax.nn.standardize(x.astype(jnp.float32), axis=-1, epsilon=1e-5)
  scale, bias = (jnp.expand_dims(parts[name], range(x.ndim - 1)) for name in ('scale', 'bias'))
  return (y * scale + bias).astype(x.dtype)
