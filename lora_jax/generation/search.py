"""One step of decoding: from the logits of each history to the histories that are continued.

Beam search as in the paper's code (examples/NLG, gpt2_beam.py), greedy search and sampling.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

BLOCK = 128
STRATEGIES = ('beam', 'greedy', 'sample')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a text is chosen; the defaults are the paper's for E2E (table 11).

  Attributes:
    strategy: `beam`; `greedy`, which is a beam of one; `sample`, one text for each context.
    beams: K, the width of the beam search.
    length_penalty: p of score = log-probability / length^p; the length counts the end token.
    no_repeat_ngram: n of the n-grams that are not generated twice: a token that would repeat one is
      masked before the softmax. The prompt does not count. 0 for no such rule.
    max_tokens: T, the most tokens that are generated.
    end_ids: tokens that end a text.
    temperature, top_k, top_p: of sampling. With 0 and 1.0 all tokens are candidates.
    seed: of sampling. The text of a context depends on the seed and on the context's index.
  """

  strategy: str = 'beam'
  beams: int = 10
  length_penalty: float = 0.9
  no_repeat_ngram: int = 4
  max_tokens: int = 64
  end_ids: tuple[int, ...] = ()
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  seed: int = 0

  def __post_init__(self) -> None:
    if self.strategy not in STRATEGIES:
      raise ValueError(f'strategy={self.strategy!r}: expected one of {", ".join(STRATEGIES)}')
    least = dict(beams=1, max_tokens=1, no_repeat_ngram=0, top_k=0)
    for name, value in least.items():
      if getattr(self, name) < value:
        raise ValueError(f'{name}={getattr(self, name)!r}: expected at least {value}')
    if not self.temperature > 0 or not 0 < self.top_p <= 1:
      raise ValueError(
        f'temperature={self.temperature!r}, top_p={self.top_p!r}: expected a temperature above 0 '
        "and a top_p in (0, 1]. For the likeliest token use strategy='greedy'."
      )

  @property
  def width(self) -> int:
    """K, the number of histories that are continued for each context."""
    return self.beams if self.strategy == 'beam' else 1


class State(NamedTuple):
  """B contexts in progress; every leaf has B in front. J is K, or 1 before the first token.

  Attributes:
    done: whether the text is decided; also true of a slot without a context.
    steps: the number of generated tokens.
    tokens: of each beam.
    parents: the beam of the previous step that each beam continues.
    log_probs: of each beam; -inf once it has ended.
    best_score, best_tokens, best_length: the best beam that has ended; a score of -inf if none has.
    keys: random numbers of sampling.
  """

  done: Bool[Array, ' B']
  steps: Int[Array, ' B']
  tokens: Int[Array, 'B K T']
  parents: Int[Array, 'B K']
  log_probs: Float[Array, 'B J']
  best_score: Float[Array, ' B']
  best_tokens: Int[Array, 'B T']
  best_length: Int[Array, ' B']
  keys: UInt32[Array, 'B 2']


def start(settings: Settings, keys: UInt32[Array, 'B 2']) -> State:
  """The state of contexts for which nothing is generated yet."""
  rows, beams, length = len(keys), settings.width, settings.max_tokens
  return State(
    done=jnp.zeros(rows, bool),
    steps=jnp.zeros(rows, jnp.int32),
    tokens=jnp.zeros((rows, beams, length), jnp.int32),
    parents=jnp.zeros((rows, beams), jnp.int32),
    log_probs=jnp.zeros((rows, 1), jnp.float32),
    best_score=jnp.full(rows, -jnp.inf, jnp.float32),
    best_tokens=jnp.zeros((rows, length), jnp.int32),
    best_length=jnp.zeros(rows, jnp.int32),
    keys=keys,
  )


def mask_repeats(
  logits: Float[Array, 'B J V'], tokens: Int[Array, 'B J T'], steps: Int[Array, ' B'], size: int
) -> Float[Array, 'B J V']:
  """The logits with -inf for each token that would repeat an n-gram of `size` of its history.

  The history is the first `steps` of the tokens.
  """
  rows, beams, length = tokens.shape
  starts = length - size + 1
  if size == 0 or starts < 1:
    return logits
  # Compare the last size - 1 tokens with each window that ends before the history does.
  last = jnp.clip(steps[:, None] - size + 1 + jnp.arange(size - 1)[None, :], 0)
  last = jnp.take_along_axis(tokens, jnp.broadcast_to(last[:, None], (rows, beams, size - 1)), 2)
  same = (jnp.arange(starts)[None, :] + size <= steps[:, None])[:, None, :]
  for i in range(size - 1):
    same &= tokens[:, :, i : i + starts] == last[:, :, i, None]
  vocabulary = logits.shape[-1]
  banned = jnp.where(same, tokens[:, :, size - 1 :], vocabulary)
  row, beam = jnp.arange(rows)[:, None, None], jnp.arange(beams)[None, :, None]
  return logits.at[row, beam, banned].set(-jnp.inf, mode='drop')


def best_beams(
  logits: Float[Array, 'B J V'], log_probs: Float[Array, 'B J'], beams: int
) -> tuple[Int[Array, 'B K'], Int[Array, 'B K'], Float[Array, 'B K']]:
  """The `beams` likeliest continuations of J histories: parents, tokens, log-probabilities.

  They are sorted; among equals the lower beam comes first, then the lower token.
  """
  values, tokens, norm = largest(logits, beams)
  total = (log_probs - norm)[:, :, None] + values
  total, chosen = jax.lax.top_k(total.reshape(len(total), -1), beams)
  tokens = jnp.take_along_axis(tokens.reshape(len(tokens), -1), chosen, axis=1)
  return chosen // beams, tokens, total


def largest(
  logits: Float[Array, '*rows V'], k: int
) -> tuple[Float[Array, '*rows K'], Int[Array, '*rows K'], Float[Array, '*rows']]:
  """The k largest logits, their indices, and logsumexp; among equals the lower index comes first.

  The search is by blocks: the k largest lie in the k blocks with the largest maxima. XLA's CPU
  compiler vectorizes and parallelizes windows, but not a whole row: for 320 rows of 50257 this
  takes 6 ms, `top_k` and `logsumexp` take 42 ms.
  """
  size = logits.shape[-1]
  window = (*[1] * (logits.ndim - 1), BLOCK)
  padding = [*[(0, 0)] * (logits.ndim - 1), (0, -size % BLOCK)]
  reduce = lambda x, start, op: jax.lax.reduce_window(x, start, op, window, window, padding)
  maxima = reduce(logits, -np.inf, jax.lax.max)
  top = jnp.max(maxima, axis=-1, keepdims=True)
  norm = top[..., 0] + jnp.log(jnp.sum(reduce(jnp.exp(logits - top), 0.0, jax.lax.add), axis=-1))
  if maxima.shape[-1] <= k:
    return *jax.lax.top_k(logits, k), norm
  # Blocks in the order of the vocabulary, so that `top_k` finds the lower of equal indices first.
  blocks = jnp.sort(jax.lax.top_k(maxima, k)[1], axis=-1)
  within = jnp.arange(k * BLOCK, dtype=jnp.int32) % BLOCK
  indices = jnp.repeat(blocks * BLOCK, BLOCK, axis=-1)
  indices += jnp.broadcast_to(within, indices.shape)
  values = jnp.take_along_axis(logits, indices, axis=-1, mode='fill', fill_value=-np.inf)
  values, chosen = jax.lax.top_k(values, k)
  return values, jnp.take_along_axis(indices, chosen, axis=-1), norm


def draw(
  logits: Float[Array, 'B 1 V'],
  log_probs: Float[Array, 'B 1'],
  keys: UInt32[Array, 'B 2'],
  settings: Settings,
) -> tuple[Int[Array, 'B 1'], Int[Array, 'B 1'], Float[Array, 'B 1']]:
  """What `best_beams` returns, for one sampled continuation of one history.

  The log-probabilities are the model's, without temperature, top_k and top_p.
  """
  norm = jax.nn.logsumexp(logits, axis=-1)
  scaled = logits / settings.temperature
  if settings.top_k:
    floor = jax.lax.top_k(scaled, min(settings.top_k, scaled.shape[-1]))[0][..., -1]
    scaled = jnp.where(scaled < floor[..., None], -jnp.inf, scaled)
  if settings.top_p < 1:
    # Keep the fewest tokens whose probabilities reach top_p: those with a smaller sum before them.
    ordered = jnp.sort(scaled, axis=-1, descending=True)
    probabilities = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    floor = jnp.min(jnp.where(before < settings.top_p, ordered, jnp.inf), axis=-1)
    scaled = jnp.where(scaled < floor[..., None], -jnp.inf, scaled)
  tokens = jax.vmap(jax.random.categorical)(jax.random.wrap_key_data(keys), scaled)
  chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return jnp.zeros_like(tokens), tokens.astype(jnp.int32), log_probs + chosen - norm


def advance(settings: Settings, state: State, logits: Float[Array, 'B J V']) -> State:
  """The state after one more token for each context that is not done."""
  before, steps, beams = state, state.steps, logits.shape[1]
  logits = mask_repeats(logits, state.tokens[:, :beams], steps, settings.no_repeat_ngram)
  if settings.strategy == 'sample':
    keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(state.keys), steps)
    keys = jax.random.key_data(keys)
    parents, tokens, log_probs = draw(logits, state.log_probs, keys, settings)
  else:
    parents, tokens, log_probs = best_beams(logits, state.log_probs, settings.width)
  history = jnp.take_along_axis(state.tokens, parents[:, :, None], axis=1)
  now = jnp.arange(settings.max_tokens)[None, :] == steps[:, None]
  history = jnp.where(now[:, None, :], tokens[:, :, None], history)
  state = state._replace(steps=steps + 1, tokens=history, parents=parents, log_probs=log_probs)
  ended = jnp.isin(tokens, jnp.asarray(settings.end_ids, jnp.int32))
  state = _record(settings, state, ended)
  # After the last token, beams that have not ended compete too.
  full = state.steps == settings.max_tokens
  state = _record(settings, state, jnp.broadcast_to(full[:, None], ended.shape))
  state = state._replace(done=full | (state.best_score >= _bound(settings, state)))
  before = before._replace(log_probs=jnp.broadcast_to(before.log_probs, log_probs.shape))
  done = lambda x: jnp.expand_dims(before.done, range(1, x.ndim))
  return jax.tree.map(lambda old, new: jnp.where(done(new), old, new), before, state)


def _record(settings: Settings, state: State, ended: Bool[Array, 'B K']) -> State:
  """Keeps the best of the beams that `ended` if it beats the best so far, and ends them."""
  scores = jnp.where(ended, state.log_probs / _penalty(settings, state.steps)[:, None], -jnp.inf)
  first = jnp.argmax(scores, axis=1)
  score = jnp.take_along_axis(scores, first[:, None], axis=1)[:, 0]
  better = score > state.best_score
  tokens = jnp.take_along_axis(state.tokens, first[:, None, None], axis=1)[:, 0]
  return state._replace(
    best_score=jnp.where(better, score, state.best_score),
    best_tokens=jnp.where(better[:, None], tokens, state.best_tokens),
    best_length=jnp.where(better, state.steps, state.best_length),
    log_probs=jnp.where(ended, -jnp.inf, state.log_probs),
  )


def _bound(settings: Settings, state: State) -> Float[Array, ' B']:
  """An upper bound of the scores that beams in progress can reach.

  It holds because a log-probability only falls and the length is at most T. The paper's code
  searches to the last step; once the best score is at the bound, the result is known.
  """
  likeliest = jnp.max(state.log_probs, axis=1)
  longest = jnp.full_like(state.steps, settings.max_tokens)
  return jnp.maximum(
    likeliest / _penalty(settings, state.steps + 1), likeliest / _penalty(settings, longest)
  )


def _penalty(settings: Settings, lengths: Int[Array, ' B']) -> Float[Array, ' B']:
  """length^p, from one table, so that all uses have the same float32 numbers."""
  table = np.arange(settings.max_tokens + 2, dtype=np.float64)
  table[1:] **= settings.length_penalty
  return jnp.asarray(table, jnp.float32)[lengths]
