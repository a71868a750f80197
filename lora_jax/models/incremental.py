"""A decoder token by token, over a cache of keys and values: what `generation.py` decodes with.

A row of the cache is laid out as a packed row of training is: first the L columns of the prompt,
which all beams see, then K columns for each step, one of each beam. What a beam sees is a mask, and
nothing is moved when beams change places: a table says in which column each of its tokens lies. So
a prompt is held once for all beams, and the attention of K beams is one product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lora_jax.models.attention import Cached


class Cache(NamedTuple):
  """What is kept of B prompts and of K beams that go on from each; every leaf has B in front.

  Attributes:
    layers: the collection `cache` of the model, C = L + T K columns.
    prompt: bool [B, L], the columns that hold the prompt; what follows it is padding.
    steps: int32 [B], tokens generated.
    beams: int32 [B, K, T], the beam in whose column each token of a beam's history lies; -1 where
      there is no token yet.
  """

  layers: Any
  prompt: jax.Array
  steps: jax.Array
  beams: jax.Array


def prefill(
  apply: Callable[..., Any], ids: jax.Array, lengths: jax.Array, *, beams: int, max_tokens: int
) -> tuple[jax.Array, Cache]:
  """The logits [B, vocabulary] of the token after each prompt, and a cache with room for more.

  Args:
    apply: the model's, its parameters bound: `apply(ids, collections=, mutable=, ...)`.
    ids: int32 [B, L]; what is beyond a prompt's length is not looked at.
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
    parents: int32 [B, K], the beam of the step before that each beam goes on from.
    cache: of the step before.
  """
  rows, beams, max_tokens = cache.beams.shape
  history = jnp.take_along_axis(cache.beams, parents[:, :, None], axis=1)
  now = jnp.arange(max_tokens)[None, :] == cache.steps[:, None]
  own = jnp.arange(beams, dtype=jnp.int32)
  history = jnp.where(now[:, None, :], own[None, :, None], history)
  generated = (history[..., None] == own[None, None, None, :]).reshape(rows, beams, -1)
  length = cache.prompt.shape[1]
  prompt = jnp.broadcast_to(cache.prompt[:, None, :], (rows, beams, length))
  position = cache.prompt.sum(axis=1, dtype=jnp.int32) + cache.steps
  logits, collections = apply(
    tokens,
    position_ids=jnp.broadcast_to(position[:, None], tokens.shape),
    cached=Cached(
      at=length + beams * cache.steps,
      visible=jnp.concatenate([prompt, generated], axis=-1),
    ),
    collections={'cache': cache.layers},
    mutable=['cache'],
  )
  return logits, Cache(collections['cache'], cache.prompt, cache.steps + 1, history)
