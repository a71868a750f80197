"""Where the factors of LoRA start: one of each pair random and the other zero."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping

import jax
import jax.numpy as jnp

from lora_jax.methods import added, lowrank, sites
from lora_jax.methods.lowrank import FACTORS


def draw(
  key: jax.Array, found: Mapping[str, sites.Site], distribution: str
) -> dict[str, jax.Array]:
  """Factors by path, float32, one of each pair random and the other zero, so the update is zero.

  Each depends on the key and its own path alone: a further target changes no other factor.
  """

  def initial(path: str, shape: lowrank.Shape, key: jax.Array) -> jax.Array:
    module, _, name = path.rpartition('/')
    site = found[module]
    if name == ('lora_a' if site.layer.transposed else 'lora_b'):
      return jnp.zeros(shape, jnp.float32)
    if site.layer.transposed:
      return jax.random.normal(key, shape, jnp.float32)
    if distribution == 'normal':
      return 0.02 * jax.random.normal(key, shape, jnp.float32)
    # Kaiming-uniform with a = sqrt(5), as in torch.nn.Linear: the bound is 1 / sqrt(fan_in).
    bound = 1 / math.sqrt(site.fan_in)
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

  shapes = {path: shape for site in found.values() for path, shape in site.factors.items()}
  return added.draw(key, shapes, initial)


def starts_at_zero(path: str, weights: Container[str]) -> bool:
  """Whether a leaf is the factor of its pair that starts at zero, `lora_a` in an embedding.

  Args:
    path: the leaf's.
    weights: paths of all leaves, the frozen ones among them.
  """
  module, _, name = path.rpartition('/')
  return name == FACTORS[0 if sites.inside(module, 'embedding') in weights else 1]
