"""Full fine-tuning: every parameter is trained, none is frozen."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from lora_jax import tree
from lora_jax.methods.base import Method


def full() -> Method:
  """Full fine-tuning, the baseline of every table of the paper (FT)."""

  def init(
    key: jax.Array, model: nn.Module, params: tree.Params, *inputs: Any, **kwargs: Any
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    del key, model, inputs, kwargs
    return {}, tree.join(nn.unbox(params))

  return Method(init=init, merge=tree.join, patterns=('.*',))
