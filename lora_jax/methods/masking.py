"""Optimizers that leave alone what a method only keeps in its trainable part."""

from __future__ import annotations

from typing import TypeVar

import jax
import optax

from lora_jax.methods.base import Method

T = TypeVar('T')


def masked(tx: optax.GradientTransformation, method: Method) -> optax.GradientTransformation:
  """An optimizer that does not move the leaves that a method draws once and keeps.

  These are the factor a of LoRA-FA, the start of PiSSA and OLoRA and the shared factors of VeRA: no
  gradient reaches them, but weight decay would. For other methods it is `tx` as it was.

      optimizer = lora_jax.masked(optax.adamw(1e-3, weight_decay=0.01), method)

  Args:
    tx: the optimizer of the trainable part, or in `nnx.Optimizer` of an adapted module.
    method: the method.
  """

  def mask(params: T) -> T:
    def moves(keys: tuple[object, ...], leaf: object) -> bool:
      del leaf
      # A variable of NNX has a last key of its own, which is no name.
      named = (getattr(key, 'key', getattr(key, 'idx', None)) for key in keys)
      return not method.fixed('/'.join(str(name) for name in named if name is not None))

    return jax.tree_util.tree_map_with_path(moves, params)

  fixed = lambda params: jax.tree.map(lambda moves: not moves, mask(params))
  return optax.chain(optax.masked(tx, mask), optax.masked(optax.set_to_zero(), fixed))
