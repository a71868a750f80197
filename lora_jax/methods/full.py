"""Full fine-tuning: every parameter is trained, none is frozen."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax

from lora_jax import tree
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.models import Model
from lora_jax.methods.options import recorded


@recorded
def full(*, train: str | Sequence[str] = ()) -> Method:
  """Full fine-tuning, the baseline of every table of the paper (FT).

  Args:
    train: patterns of further leaves to train, as other methods take them; here all are trained.
  """

  def init(
    key: jax.Array, model: Model, params: Params, *inputs: object, **kwargs: object
  ) -> tuple[Tree, Tree]:
    del key, model, inputs, kwargs
    return {}, tree.join(nn.unbox(params))

  del train
  return Method(init=init, merge=tree.join, patterns=('.*',), program=('full',))
