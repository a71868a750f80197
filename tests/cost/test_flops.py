"""FLOPs of traced functions."""

import jax
import jax.numpy as jnp

from lora_jax.cost import flops


def test_flops_count_every_turn_of_a_loop():
  x, w = jnp.zeros((8, 16)), jnp.zeros((5, 16, 16))
  looped = jax.make_jaxpr(lambda x, w: jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0])(x, w)
  assert flops.count(looped) == 5 * 2 * 8 * 16 * 16
  expensive = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x.T @ x, lambda x: x, x)
  assert flops.count(jax.make_jaxpr(expensive)(x)) == 2 * (2 * 8 * 8 * 16)
