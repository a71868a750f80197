"""Adapters: small bottlenecks in a frozen model, y + W_up f(W_down h), in the paper's four kinds.

They sit where the model names a place for them (models/layers.py: `Branch`, the output of a
sub-layer before it is added to the residual stream) or after a whole block. W_up begins at zero:
the adapted model is the base model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import stacking, tree
from lora_jax.methods import added
from lora_jax.methods.base import Method

NAME = 'adapter'
ATTENTION, MLP = r'(.*/)?attention_branch', r'(.*/)?mlp_branch'
ACTIVATIONS = {'relu': jax.nn.relu, 'silu': jax.nn.silu, 'gelu': jax.nn.gelu, 'tanh': jnp.tanh}


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


def adapter_l(
  *,
  bottleneck: int,
  targets: str | Sequence[str] = stacking.LAYER,
  train: str | Sequence[str] = (),
  activation: str = 'relu',
) -> Method:
  """Lin et al. (2020), Adapter-L: after each block, on a trained LayerNorm of its own; see
  `adapter_h`.
  """
  return _adapter('adapter_l', bottleneck, targets, train, activation, norm=True)


def adapter_p(
  *,
  bottleneck: int,
  targets: str | Sequence[str] = MLP,
  train: str | Sequence[str] = (),
  activation: str = 'relu',
) -> Method:
  """Pfeiffer et al. (2021), Adapter-P: after the MLP; see `adapter_h`.

  In a model that normalises after the sum (BERT, RoBERTa) it reads what the layer would have made
  of the MLP's output, the normalised sum, and adds to that output, which is then summed and
  normalised again (paper.md, section 3). In GPT-2 it reads the MLP's output.
  """
  return _adapter('adapter_p', bottleneck, targets, train, activation, reads_sum=True)


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
    drop: number of layers without one. 0 gives the count that the paper prints.

  Raises:
    ValueError: as for `adapter_h`; from `init`, if layers are scanned: their adapters are one
      array, of which none can be left out.
  """
  if not isinstance(drop, int) or drop < 0:
    raise ValueError(f'adapter_d: drop={drop!r}: a number of layers, from 0 up')
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
    raise ValueError(f'{name}: bottleneck={bottleneck!r}: a whole number from 1 up')
  if activation not in ACTIVATIONS:
    raise ValueError(f'{name}: activation={activation!r}: choose one of {", ".join(ACTIVATIONS)}')
  nonlinear = ACTIVATIONS[activation]

  def shapes(context: Any, path: str, y: Any, args: Any, kwargs: Any) -> Mapping[str, Any]:
    del context, args, kwargs
    if drop and _layer(name, path) < drop:
      return {}
    width = y.shape[-1]
    wanted = {
      'down/kernel': (width, bottleneck), 'down/bias': (bottleneck,),
      'up/kernel': (bottleneck, width), 'up/bias': (width,),
    }  # fmt: skip
    return wanted | ({'norm/scale': (width,), 'norm/bias': (width,)} if norm else {})

  def init(
    key: jax.Array, model: nn.Module, params: tree.Params, *inputs: Any, **kwargs: Any
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    found = added.find(name, NAME, shapes, model, inputs, kwargs, targets)
    if not found:
      raise ValueError(f'{name}: drop={drop} leaves no adapter; the model has fewer layers')
    frozen, chosen = tree.split(nn.unbox(params), train)
    return frozen, tree.join(chosen, tree.unflatten(added.draw(key, found, _initial)))

  def interceptor(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
    y = next_fun(*args, **kwargs)
    module = context.module
    if context.method_name != '__call__' or not module.has_variable('params', NAME):
      return y
    parts = module.get_variable('params', NAME)
    h = kwargs['added'](y) if reads_sum and kwargs.get('added') else y
    if norm:
      h = _layer_norm(h, parts['norm'])
    h = nonlinear(_dense(h, parts['down']))
    return y + _dense(h, parts['up'])

  def merge(frozen: tree.Params, trainable: tree.Params) -> dict[str, Any]:
    raise ValueError(
      f'{name} has a nonlinearity between its matrices: no weights of the base model compute it. '
      'Serve it as it is, with `bind`.'
    )

  return Method(init=init, merge=merge, interceptor=interceptor, patterns=(*targets, *train))


def _layer(name: str, path: str) -> int:
  """The number of the layer that a path lies in."""
  index = stacking.layer_index(path)
  if index is None:
    raise ValueError(
      f'{name}: drop needs layers that are numbered, and {path!r} is all of them in one. Loop them '
      '(scan=False).'
    )
  return index


def _initial(path: str, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
  """W_up and biases zero, W_down of standard deviation 0.02, the norm at identity."""
  if path.endswith('down/kernel'):
    return 0.02 * jax.random.normal(key, shape, jnp.float32)
  return (jnp.ones if path.endswith('norm/scale') else jnp.zeros)(shape, jnp.float32)


def _dense(x: jax.Array, parts: Mapping[str, jax.Array]) -> jax.Array:
  kernel, bias = (parts[name].astype(x.dtype) for name in ('kernel', 'bias'))
  return jnp.matmul(x, kernel) + jnp.expand_dims(bias, range(x.ndim - 1))


def _layer_norm(x: jax.Array, parts: Mapping[str, jax.Array]) -> jax.Array:
  """Over the last axis, in float32, with torch's epsilon."""
  y = x.astype(jnp.float32)
  y = jax.nn.standardize(y, axis=-1, epsilon=1e-5)
  scale, bias = (jnp.expand_dims(parts[name], range(x.ndim - 1)) for name in ('scale', 'bias'))
  return (y * scale + bias).astype(x.dtype)
