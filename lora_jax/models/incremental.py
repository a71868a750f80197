"""A decoder run token by token over a cache of keys and values, for `lora_jax/generation`.

A row of the cache is laid out as a packed row of training is: first the L columns of the prompt,
which all beams see, then T blocks of K columns, one of each beam. What a beam sees is a mask, and
nothing is moved when beams change places: a table says in which column each of its tokens lies. So
a prompt is held once for all beams, and the attention of K beams is one product.

All rows write a step into the same block, the next one in a circle, wherever in the circle a row
has begun: its last T tokens are whole. Were the block the row's own, XLA:CPU would write it into a
bfloat16 cache by converting all of the cache to float32 and back, half of the time of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lora_jax.models.attention import Cached


class Cache(NamedTuple):
  """Keys and values of B prompts and of the K beams that continue each; all leaves start with B.

  Attributes:
    layers: the collection `cache` of the model, C = L + T K columns.
    prompt: bool [B, L], the columns that hold the prompt; padding follows it.
    steps: int32 [B], number of generated tokens.
    clock: int32 [B], number of steps that were made with this row in the cache, or in place of it;
      the largest is the cache's.
    beams: int32 [B, K, T], of each block the beam in whose column a token of a beam's history lies;
      -1 where none does.
  """

  layers: Mapping[str, Any]
  prompt: jax.Array
  steps: jax.Array
  clock: jax.Array
  beams: jax.Array


def prefill(
  apply: Callable[..., Any], ids: jax.Array, lengths: jax.Array, *, beams: int, max_tokens: int
) -> tuple[jax.Array, Cache]:
  """The logits [B, vocabulary] of the token after each prompt, and a cache with room for more.

  Args:
    apply: the model's, its parameters bound: `apply(ids, collections=, mutable=, ...)`.
    ids: int32 [B, L]; tokens beyond a prompt's length are not read.
    lengths: int32 [B], at least 1.
    beams, max_tokens: K and T.
  """
  logits, collections = apply(ids, prediction_positions=lengths[:, None] - 1, mutable=['cache'])
  rows, columns = ids.shape[0], beams * max_tokens

  def room(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
    # Keys are [..., width, C], values [..., C, width].
    axis = x.ndim - 1 if path[-1].key == 'keys' else x.ndim - 2
    return jnp.pad(x, [(0, columns if i == axis else 0) for i in range(x.ndim)])

  cache = Cache(
    layers=jax.tree_util.tree_map_with_path(room, collections['cache']),
    prompt=jnp.arange(ids.shape[1])[None, :] < lengths[:, None],
    steps=jnp.zeros(rows, jnp.int32),
    clock=jnp.zeros(rows, jnp.int32),
    beams=jnp.full((rows, beams, max_tokens), -1, jnp.int32),
  )
  return logits[:, 0], cache


def step(
  apply: Callable[..., Any], tokens: jax.Array, parents: jax.Array, cache: Cache
) -> tuple[jax.Array, Cache]:
  """The logits [B, K, vocabulary] of the token after `tokens`, and the cache with these in it.

  Args:
    apply: as for `prefill`.
    tokens: int32 [B, K], the last token of each beam.
    parents: int32 [B, K], the beam of the previous step that each beam continues.
    cache: the cache that the previous step returned.
  """
  rows, beams, max_tokens = cache.beams.shape
  history = jnp.take_along_axis(cache.beams, parents[:, :, None], axis=1)
  clock = jnp.max(cache.clock)
  block = clock % max_tokens
  now = jnp.arange(max_tokens) == block
  own = jnp.arange(beams, dtype=jnp.int32)
  history = jnp.where(now[None, None, :], own[None, :, None], history)
  generated = (history[..., None] == own[None, None, None, :]).reshape(rows, beams, -1)
  length = cache.prompt.shape[1]
  prompt = jnp.broadcast_to(cache.prompt[:, None, :], (rows, beams, length))
  position = cache.prompt.sum(axis=1, dtype=jnp.int32) + cache.steps
  logits, collections = apply(
    tokens,
    position_ids=jnp.broadcast_to(position[:, None], tokens.shape),
    cached=Cached(
      at=length + beams * block,
      visible=jnp.concatenate([prompt, generated], axis=-1),
    ),
    collections={'cache': cache.layers},
    mutable=['cache'],
  )
  return logits, Cache(
    layers=collections['cache'],
    prompt=cache.prompt,
    steps=cache.steps + 1,
    clock=jnp.full_like(cache.clock, clock + 1),
    beams=history,
  )
