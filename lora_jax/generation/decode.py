"""Decoding of many contexts: `make_decoder`.

A language model is two functions, `prefill` and `step`; this module does not know their cache.
Contexts are decoded in slots, B at a time: a slot whose text is decided is given the next context,
so no slot waits for the slowest of a batch. The text of a context does not depend on the others.

Prompts are padded to a few lengths, those with which the decoding is expected to end soonest: one
more length leaves less padding and costs a compilation. No clock is read, so that all processes of
a job choose the same.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import itertools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, UInt32

from lora_jax.generation import search
from lora_jax.generation.search import Settings

OUTCOME = ('done', 'best_score', 'best_tokens', 'best_length')  # Fields of `search.State`.
SHORTEST_BUCKET = 64  # Columns of padding cost little, a compilation costs seconds.
LAST_MULTIPLE = 16  # The longest prompt of a call is padded to a multiple of it.
Params = TypeVar('Params')  # A model's parameters, any tree of arrays.
Cache = TypeVar('Cache')  # A model's cache, a tree whose leaves have B in front.
Slots = tuple[search.State, Cache]
Running = list[int | None]  # The context in each slot.


@dataclasses.dataclass(frozen=True)
class LanguageModel(Generic[Params, Cache]):
  """A model to decode.

  Attributes:
    prefill: `prefill(params, ids [B, L], lengths [B]) -> (logits [B, V], cache)`; the logits are of
      the token that follows each prompt.
    step: `step(params, tokens [B, K], parents [B, K], cache) -> (logits [B, K, V], cache)`, where
      `parents` are the beams of the previous step that the tokens were appended to.
  """

  prefill: Callable[
    [Params, Int[Array, 'B L'], Int[Array, ' B']], tuple[Float[Array, 'B V'], Cache]
  ]
  step: Callable[
    [Params, Int[Array, 'B K'], Int[Array, 'B K'], Cache], tuple[Float[Array, 'B K V'], Cache]
  ]


class Generated(NamedTuple):
  """The text of a context.

  Attributes:
    tokens: int32 [length], with the end token if there is one.
    score: log-probability / length^length_penalty.
  """

  tokens: np.ndarray
  score: float


def make_decoder(
  model: LanguageModel[Params, Cache],
  settings: Settings,
  *,
  batch_size: int = 32,
  length_cost: float = 0.0,
  max_length: int = 0,
  sharding: NamedSharding | None = None,
) -> Callable[..., list[Generated]]:
  """A function `decode(params, prompts)` that generates the text of each prompt, in their order.

  `decode(params, prompts, decided, progress)` goes on after an interrupted call with the same
  arguments: `decided` are texts of that call by the number of their prompt, which are not decoded
  again, and the others come out as if they had been. `progress` is called with the texts that are
  decided, at first those, and the number of all.

  Prompts are int32 [length], of any lengths; the function is compiled once for each of the few
  lengths that `plan` pads them to. It raises a ValueError for an empty prompt, and a
  FloatingPointError if the model's logits are not finite.

  Args:
    model: the functions of the model.
    settings: how a text is chosen.
    batch_size: B, the number of contexts in progress.
    length_cost: what one more length costs, in columns of padding of one prompt: the seconds of
      compiling for it over those of one token of a prompt. With 0 padding is least.
    max_length: the most columns that a prompt may have, by which longer lengths are cut; 0 is the
      longest prompt of a call, rounded up to a multiple of 16.
    sharding: of the contexts, over the devices of a mesh, which may belong to several processes:
      each calls with the same arguments and is given all texts. None for one device.

  Raises:
    ValueError: if B is not a multiple of the number of devices.
  """
  devices = 1 if sharding is None else len(sharding.device_set)
  if batch_size % devices:
    raise ValueError(f'batch_size={batch_size} is not a multiple of the {devices} devices')
  admit, run = functions(model, settings, sharding)

  def decode(
    params: Params,
    prompts: Sequence[np.ndarray],
    decided: Mapping[int, Generated] = types.MappingProxyType({}),
    progress: Callable[[Mapping[int, Generated], int], None] | None = None,
  ) -> list[Generated]:
    for i, prompt in enumerate(prompts):
      if not len(prompt):
        raise ValueError(
          f'prompt {i} is empty: it must hold at least the token that ends a context'
        )
    results = dict(decided)
    say = progress or (lambda results, total: None)
    say(results, len(prompts))
    # Lengths and slots are those of all prompts, so that what is left is decoded by the same
    # programs, to the same digits.
    groups = plan([len(prompt) for prompt in prompts], length_cost, max_length)
    for length, indices in groups.items():
      slots = min(batch_size, -(-len(indices) // devices) * devices)
      together = max(slots // 4 // devices, 1) * devices  # Contexts that enter at the same time.
      waiting = collections.deque(i for i in indices if i not in results)
      running = Running([None] * slots)
      if not waiting:
        continue
      state = empty_slots(model, params, settings, slots, length, sharding)
      while waiting or any(i is not None for i in running):
        for group in _fill(waiting, running, together):
          state = admit(params, state, *_arrays(group, prompts, settings, together, length))
        active = sum(i is not None for i in running)
        # Until a group of slots is free or, if no context waits for them, to the end.
        state, outcome = run(params, state, max(active - together, 0) if waiting else 0)
        results |= _harvest(outcome, running)
        say(results, len(prompts))
    return [results[i] for i in range(len(prompts))]

  return decode


def plan(lengths: Sequence[int], length_cost: float, max_length: int = 0) -> dict[int, list[int]]:
  """Indices of prompts by the length that they are padded to, the shortest first.

  The lengths are those of `_candidates` for which padding and compilations together cost least.
  Each prompt is padded to the least of them that holds it. What an earlier call has compiled does
  not count: a run that is resumed has to decode as one that was not.

  Args:
    lengths: of the prompts.
    length_cost: of compiling for one more length, in columns of padding of one prompt.
    max_length: as for `make_decoder`.
  """
  ordered = sorted(lengths)
  # A shortest path: from a length to any longer one, which holds all prompts between them. The
  # prompts' own columns count too; they are the same for any choice.
  paths: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
  for length in _candidates(max(lengths, default=0), max_length):
    options = []
    for shorter, (cost, chosen) in paths.items():
      prompts = bisect.bisect(ordered, length) - bisect.bisect(ordered, shorter)
      if prompts:
        options.append((cost + prompts * length + length_cost, (*chosen, length)))
    if options:
      paths[length] = min(options)
  _, chosen = paths[max(paths)]
  found: dict[int, list[int]] = {length: [] for length in chosen}
  for i, length in enumerate(lengths):
    found[chosen[bisect.bisect_left(chosen, length)]].append(i)
  return found


def _candidates(longest: int, max_length: int) -> list[int]:
  """64, 96, 128, 192, 256, ... until one holds the longest prompt, cut to the most columns.

  They are few, so that calls with other prompts mostly find what was compiled for earlier ones.
  """
  most = max(max_length or -(-longest // LAST_MULTIPLE) * LAST_MULTIPLE, longest)
  first = SHORTEST_BUCKET, SHORTEST_BUCKET * 3 // 2
  every = (length << power for power in itertools.count() for length in first)
  found = [0]
  while found[-1] < longest:
    found.append(min(next(every), most))
  return found[1:]


def bucket(length: int, shortest: int = SHORTEST_BUCKET) -> int:
  """The least of shortest, twice that, four times that, ... that holds `length`.

  `shortest` is a power of two.
  """
  return max(shortest, 1 << (length - 1).bit_length())


def functions(
  model: LanguageModel[Params, Cache], settings: Settings, sharding: NamedSharding | None = None
) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:
  """The two compiled functions of decoding; both donate their state.

  `admit(params, state, slots, ids, lengths, keys) -> state` puts contexts into slots.
  `run(params, state, until) -> (state, outcome)` decodes until no more than `until` slots are
  undecided; `outcome` is the part of the state that a host reads, replicated on all devices.
  """

  def admit(
    params: Params,
    state: Slots[Cache],
    slots: Int[Array, ' rows'],
    ids: Int[Array, 'rows L'],
    lengths: Int[Array, ' rows'],
    keys: UInt32[Array, 'rows 2'],
  ) -> Slots[Cache]:
    logits, cache = model.prefill(params, ids, lengths)
    if settings.width > logits.shape[-1]:
      raise ValueError(
        f'beams={settings.width}: expected at most the size of the vocabulary, {logits.shape[-1]}'
      )
    new = (
      search.advance(settings, search.start(settings, keys), logits[:, None].astype(jnp.float32)),
      cache,
    )
    return jax.tree.map(lambda old, new: old.at[slots].set(new, mode='drop'), state, new)

  def run(
    params: Params, slots: Slots[Cache], until: Int[Array, '']
  ) -> tuple[Slots[Cache], dict[str, jax.Array]]:
    def step(slots: Slots[Cache]) -> Slots[Cache]:
      state, cache = slots
      last = jnp.maximum(state.steps - 1, 0)[:, None, None]
      tokens = jnp.take_along_axis(state.tokens, last, axis=2)[:, :, 0]
      logits, cache = model.step(params, tokens, state.parents, cache)
      return search.advance(settings, state, logits.astype(jnp.float32)), cache

    slots = jax.lax.while_loop(lambda slots: jnp.sum(~slots[0].done) > until, step, slots)
    return slots, {name: getattr(slots[0], name) for name in OUTCOME}

  whole = sharding and NamedSharding(sharding.mesh, PartitionSpec())
  jit = lambda f, out: jax.jit(f, donate_argnums=1, out_shardings=out)
  return jit(admit, sharding), jit(run, (sharding, whole))


def empty_slots(
  model: LanguageModel[Params, Cache],
  params: Params,
  settings: Settings,
  slots: int,
  length: int,
  sharding: NamedSharding | None = None,
) -> Slots[Cache]:
  """The state of slots without contexts, all done, for prompts of up to `length` tokens."""
  tokens = jax.ShapeDtypeStruct((slots, length), np.int32)
  lengths = jax.ShapeDtypeStruct((slots,), np.int32)
  _, cache = jax.eval_shape(model.prefill, params, tokens, lengths)
  cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype, device=sharding), cache)
  state = search.start(settings, jnp.zeros((slots, 2), jnp.uint32))
  state = state._replace(
    done=jnp.ones(slots, bool), log_probs=jnp.zeros((slots, settings.width), jnp.float32)
  )
  if sharding is not None:
    state = jax.tree.map(lambda leaf: _put(np.asarray(leaf), sharding), state)
  return state, cache


def _put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  """Puts an array that every process has, without the comparison that `jax.device_put` makes."""
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _fill(
  waiting: collections.deque[int], running: Running, together: int
) -> Iterator[dict[int, int]]:
  """Takes contexts from `waiting` into free slots of `running`, in groups: slot -> context."""
  free = [slot for slot, i in enumerate(running) if i is None]
  while waiting and free:
    group = {}
    while waiting and free and len(group) < together:
      group[free.pop(0)] = waiting.popleft()
    for slot, i in group.items():
      running[slot] = i
    yield group


def _arrays(
  group: dict[int, int],
  prompts: Sequence[np.ndarray],
  settings: Settings,
  rows: int,
  length: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Slots [rows], ids [rows, length], lengths [rows] and keys [rows, 2] of a group.

  Rows without a context have a slot that does not exist.
  """
  slots = np.full(rows, np.iinfo(np.int32).max, np.int32)
  ids, lengths = np.zeros((rows, length), np.int32), np.ones(rows, np.int32)
  indices = np.zeros(rows, np.int32)
  for row, (slot, i) in enumerate(group.items()):
    slots[row], indices[row], lengths[row] = slot, i, len(prompts[i])
    ids[row, : len(prompts[i])] = prompts[i]
  keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(settings.seed), indices)
  return slots, ids, lengths, np.asarray(jax.random.key_data(keys))


def _harvest(outcome: dict[str, jax.Array], running: Running) -> dict[int, Generated]:
  """The results of the contexts that are done, whose slots become free."""
  done, scores, tokens, lengths = (np.asarray(outcome[name]) for name in OUTCOME)
  found = {}
  for slot, i in enumerate(running):
    if i is None or not done[slot]:
      continue
    if not np.isfinite(scores[slot]):
      raise FloatingPointError(f"prompt {i}: the model's logits are not finite")
    found[i] = Generated(tokens[slot, : lengths[slot]], float(scores[slot]))
    running[slot] = None
  return found
