"""Kinds of NNX layers, each with its twin: the Linen layer that computes the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import nnx

Names = tuple[tuple[str, str], ...]  # (name, name in Linen) of methods or parameters.
CALLS: Names = (('__call__', '__call__'), ('attend', 'attend'))


class Kind(NamedTuple):
  """A kind of layer of NNX that methods can adapt.

  Attributes:
    twin: the Linen layer that computes the same, given the module.
    names: of its parameters, where they differ.
    calls: of its methods that use its weight.
  """

  twin: Callable[..., nn.Module]
  names: Names = ()
  calls: Names = CALLS


def _given(function: Callable[..., object] | None) -> Callable[..., object] | None:
  """A product that a layer was given; None for JAX's own, which is NNX's default."""
  own = (jax.lax.dot_general, jax.lax.conv_general_dilated)
  return None if function in own else function


KINDS: dict[type[nnx.Module], Kind] = {
  nnx.Linear: Kind(
    lambda m: nn.Dense(
      m.out_features, m.use_bias, m.dtype, precision=m.precision, dot_general=_given(m.dot_general)
    )
  ),
  nnx.LinearGeneral: Kind(
    lambda m: nn.DenseGeneral(
      m.out_features, m.axis, tuple(m.batch_axis), dtype=m.dtype, precision=m.precision,
      dot_general=_given(m.dot_general), dot_general_cls=m.dot_general_cls,
    )
  ),
  nnx.Einsum: Kind(
    lambda m: nn.Einsum(
      m.kernel_shape, m.einsum_str, dtype=m.dtype, precision=m.precision,
      preferred_element_type=m.preferred_element_type,
    )
  ),
  nnx.Conv: Kind(
    lambda m: nn.Conv(
      m.out_features, m.kernel_size, m.strides, m.padding, m.input_dilation, m.kernel_dilation,
      m.feature_group_count, mask=m.mask, dtype=m.dtype, precision=m.precision,
      conv_general_dilated=_given(m.conv_general_dilated),
    )
  ),
  nnx.Embed: Kind(lambda m: nn.Embed(m.num_embeddings, m.features, dtype=m.dtype)),
}  # fmt: skip


def kind_of(module: nnx.Module) -> Kind | None:
  """What is known of a module's class; None if its class has a call of its own."""
  own = type(module)
  base = next((base for base in own.__mro__ if base in KINDS), None)
  if base is None:
    return None
  kind = KINDS[base]
  is_own = any(getattr(own, name, None) != getattr(base, name, None) for name, _ in kind.calls)
  return None if is_own else kind


def make_twin(kind: Kind | None, module: nnx.Module) -> nn.Module:
  """The twin of a module; that of one that is not a layer has its parameters alone."""
  return kind.twin(module) if kind else _plain(type(module).__name__)()


@functools.cache
def _plain(name: str) -> type[nn.Module]:
  """The twin of a module that is not a layer: it has the module's parameters alone."""
  return type(name, (nn.Module,), {'__module__': __name__})


def weight_axes(twin: nn.Module) -> int:
  """How many axes the weight of a layer has if no layers are stacked."""
  if isinstance(twin, nn.DenseGeneral):
    return np.size(twin.batch_dims) + np.size(twin.axis) + np.size(twin.features)
  if isinstance(twin, nn.Conv):
    return np.size(twin.kernel_size) + 2
  return len(twin.shape) if isinstance(twin, nn.Einsum) else 2
