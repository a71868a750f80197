"""What the layers of all decoders here have in common: two branches, each behind a norm."""

from __future__ import annotations

import abc
from typing import Any

import flax.linen as nn
import jax

from lora_jax.models import layers


class DecoderLayer(nn.Module):
  """Norm, causal attention, residual; norm, MLP, residual (pre-LN). A family gives the parts."""

  config: Any  # The family's architecture.
  options: layers.Options

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    columns: jax.Array | None,
    *,
    virtual: jax.Array,
    deterministic: bool,
    **inputs: Any,
  ) -> jax.Array:
    """The layer's output, [R, L, width], or [R, E, width] at the columns [R, E]; see `Stack`."""
    del virtual  # Methods that replace the input of a layer read it (`models/__init__.py`).

    def add(x: jax.Array, y: jax.Array, name: str) -> jax.Array:
      branch = layers.Branch(self.options.hidden_dropout, name=f'{name}_branch')
      return x + branch(y, deterministic=deterministic)

    attention, mlp = self.self_attention('attention'), self.mlp('mlp')
    y = attention(self.norm('attention_norm')(x), columns, deterministic=deterministic, **inputs)
    x = add(layers.take_columns(x, columns), y, 'attention')
    return add(x, mlp(self.norm('mlp_norm')(x)), 'mlp')

  @abc.abstractmethod
  def norm(self, name: str) -> nn.Module:
    """A norm in front of a branch."""
    ...

  @abc.abstractmethod
  def self_attention(self, name: str) -> nn.Module:
    """The attention; it gets those inputs of the layer that not every family has."""
    ...

  @abc.abstractmethod
  def mlp(self, name: str) -> nn.Module:
    """The MLP."""
    ...
