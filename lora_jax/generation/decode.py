"""Decoding of many contexts: `make_decoder`.

A language model is two functions, `prefill` and `step`; nothing here knows its cache. Contexts are
decoded in slots, B at a time: a slot whose context is decided is given the next one, so no slot
waits for the slowest of a batch. What a context becomes does not depend on the others.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from lora_jax.generation import search
from lora_jax.generation.search import Settings

FOUND = ('done', 'best_score', 'best_tokens', 'best_length')  # Fields of `search.State`.
SHORTEST_BUCKET = 64  # Columns of padding cost little, a compilation costs seconds.


class LanguageModel(NamedTuple):
  """What is decoded.

  Attributes:
    prefill: `prefill(params, ids [B, L], lengths [B]) -> (logits [B, V], cache)`: of the token that
      follows each prompt. Every leaf of a cache has B in front.
    step: `step(params, tokens [B, K], parents [B, K], cache) -> (logits [B, K, V], cache)`, where
      `parents` are the beams of the step before that the tokens were appended to.
  """

  prefill: Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
  step: Callable[[Any, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


class Generated(NamedTuple):
  """What a context became.

  Attributes:
    tokens: int32 [length], the end token included if there is one.
    score: log-probability / length^length_penalty.
  """

  tokens: np.ndarray
  score: float


def make_decoder(
  model: LanguageModel,
  settings: Settings,
  *,
  batch_size: int = 32,
  sharding: NamedSharding | None = None,
) -> Callable[[Any, Sequence[np.ndarray]], list[Generated]]:
  """A function `decode(params, prompts)`: the text that each prompt becomes, in their order.

  Prompts are int32 [length], of any lengths; it is compiled once for each bucket of these. It
  raises a ValueError for an empty prompt, and a FloatingPointError where the model's logits are not
  finite.

  Args:
    model: the functions of the model.
    settings: how a text is chosen.
    batch_size: B, contexts in progress at a time.
    sharding: of the contexts, over the devices of a mesh, which may be those of several processes:
      each calls with the same arguments and is given all texts. None for one device.

  Raises:
    ValueError: if B is no multiple of the devices.
  """
  devices = 1 if sharding is None else len(sharding.device_set)
  if batch_size % devices:
    raise ValueError(f'batch_size={batch_size} is no multiple of the {devices} devices')
  admit, run = functions(model, settings, sharding)

  def decode(params: Any, prompts: Sequence[np.ndarray]) -> list[Generated]:
    for i, prompt in enumerate(prompts):
      if not len(prompt):
        raise ValueError(
          f'prompt {i} is empty: it must hold at least the token that ends a context'
        )
    results: dict[int, Generated] = {}
    for length, indices in buckets([len(prompt) for prompt in prompts]).items():
      slots = min(batch_size, -(-len(indices) // devices) * devices)
      together = max(slots // 4 // devices, 1) * devices  # Contexts that enter at the same time.
      waiting = collections.deque(indices)
      running: list[int | None] = [None] * slots
      state = empty_slots(model, params, settings, slots, length, sharding)
      while waiting or any(i is not None for i in running):
        for entering in _entering(waiting, running, together):
          state = admit(params, state, *_entrants(entering, prompts, settings, together, length))
        active = sum(i is not None for i in running)
        # Until a group of slots is free, or, with nothing left to put there, to the end.
        state, found = run(params, state, max(active - together, 0) if waiting else 0)
        results |= _harvest(found, running)
    return [results[i] for i in range(len(prompts))]

  return decode


def buckets(lengths: Sequence[int]) -> dict[int, list[int]]:
  """Indices of prompts by the length that they are padded to, 64, 128, ..., the last one cut."""
  longest = max(lengths, default=0)
  found: dict[int, list[int]] = {}
  for i, length in enumerate(lengths):
    found.setdefault(min(bucket(length), -(-longest // 16) * 16), []).append(i)
  return dict(sorted(found.items()))


def bucket(length: int, shortest: int = SHORTEST_BUCKET) -> int:
  """The least of shortest, twice that, four times that, ... that holds `length`.

  `shortest` is a power of two.
  """
  return max(shortest, 1 << (length - 1).bit_length())


def functions(
  model: LanguageModel, settings: Settings, sharding: NamedSharding | None = None
) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:
  """The two compiled functions of decoding; both are given their state away.

  `admit(params, state, slots, ids, lengths, keys) -> state` puts contexts into slots;
  `run(params, state, until) -> (state, found)` goes on until no more than `until` slots are
  undecided; `found` is what of the state a host reads, whole on each device.
  """

  def admit(
    params: Any, state: Any, slots: jax.Array, ids: jax.Array, lengths: jax.Array, keys: jax.Array
  ) -> Any:
    logits, cache = model.prefill(params, ids, lengths)
    if settings.width > logits.shape[-1]:
      raise ValueError(f'{settings.width} beams of a vocabulary of {logits.shape[-1]}')
    new = (
      search.advance(settings, search.start(settings, keys), logits[:, None].astype(jnp.float32)),
      cache,
    )
    return jax.tree.map(lambda old, new: old.at[slots].set(new, mode='drop'), state, new)

  def run(params: Any, state: Any, until: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
    def step(state: Any) -> Any:
      state, cache = state
      last = jnp.maximum(state.steps - 1, 0)[:, None, None]
      tokens = jnp.take_along_axis(state.tokens, last, axis=2)[:, :, 0]
      logits, cache = model.step(params, tokens, state.parents, cache)
      return search.advance(settings, state, logits.astype(jnp.float32)), cache

    state = jax.lax.while_loop(lambda state: jnp.sum(~state[0].done) > until, step, state)
    return state, {name: getattr(state[0], name) for name in FOUND}

  whole = sharding and NamedSharding(sharding.mesh, PartitionSpec())
  jit = lambda f, out: jax.jit(f, donate_argnums=1, out_shardings=out)
  return jit(admit, sharding), jit(run, (sharding, whole))


def empty_slots(
  model: LanguageModel,
  params: Any,
  settings: Settings,
  slots: int,
  length: int,
  sharding: NamedSharding | None = None,
) -> Any:
  """The state of slots without contexts, for prompts of up to `length` tokens: all done."""
  tokens = jax.ShapeDtypeStruct((slots, length), np.int32)
  lengths = jax.ShapeDtypeStruct((slots,), np.int32)
  _, cache = jax.eval_shape(model.prefill, params, tokens, lengths)
  cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype, device=sharding), cache)
  state = search.start(settings, jnp.zeros((slots, 2), jnp.uint32))
  state = state._replace(
    done=jnp.ones(slots, bool), log_probs=jnp.zeros((slots, settings.width), jnp.float32)
  )
  if sharding is not None:
    state = jax.tree.map(lambda leaf: _placed(np.asarray(leaf), sharding), state)
  return state, cache


def _placed(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  """An array that every process has, without comparing theirs as `jax.device_put` does."""
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _entering(
  waiting: collections.deque[int], running: list[int | None], together: int
) -> Iterator[dict[int, int]]:
  """Takes contexts from `waiting` into free slots of `running`: slot -> context, in groups."""
  free = [slot for slot, i in enumerate(running) if i is None]
  while waiting and free:
    group = {}
    while waiting and free and len(group) < together:
      group[free.pop(0)] = waiting.popleft()
    for slot, i in group.items():
      running[slot] = i
    yield group


def _entrants(
  entering: dict[int, int],
  prompts: Sequence[np.ndarray],
  settings: Settings,
  rows: int,
  length: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Slots, ids [rows, length], lengths and keys of a group; rows without a context have no slot."""
  slots = np.full(rows, np.iinfo(np.int32).max, np.int32)
  ids, lengths = np.zeros((rows, length), np.int32), np.ones(rows, np.int32)
  indices = np.zeros(rows, np.int32)
  for row, (slot, i) in enumerate(entering.items()):
    slots[row], indices[row], lengths[row] = slot, i, len(prompts[i])
    ids[row, : len(prompts[i])] = prompts[i]
  keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(settings.seed), indices)
  return slots, ids, lengths, np.asarray(jax.random.key_data(keys))


def _harvest(state: dict[str, jax.Array], running: list[int | None]) -> dict[int, Generated]:
  """The results of the contexts that are done; their slots are free."""
  done, scores, tokens, lengths = (np.asarray(state[name]) for name in FOUND)
  found = {}
  for slot, i in enumerate(running):
    if i is None or not done[slot]:
      continue
    if not np.isfinite(scores[slot]):
      raise FloatingPointError(f'prompt {i}: the model gives logits that are not finite')
    found[i] = Generated(tokens[slot, : lengths[slot]], float(scores[slot]))
    running[slot] = None
  return found
