"""Decoding against a plain beam search, over models whose logits are a table of their histories."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import generation
from lora_jax.generation import LanguageModel, Settings
from lora_jax.generation import decode as decoding

ROWS, VOCABULARY = 251, 13


def next_hash(state, token):
  return (state * 31 + token + 7) % ROWS


def prefill(table, ids, lengths):
  state = jnp.zeros(len(ids), jnp.int32)
  state = jax.lax.fori_loop(
    0,
    ids.shape[1],
    lambda i, state: jnp.where(i < lengths, next_hash(state, ids[:, i]), state),
    state,
  )
  beams = int(table.shape[0])  # [K, ROWS, V]: K beams have the same table.
  return table[0][state], {'state': jnp.repeat(state[:, None], beams, axis=1)}


def step(table, tokens, parents, cache):
  state = next_hash(jnp.take_along_axis(cache['state'], parents, axis=1), tokens)
  return table[0][state], {'state': state}


MODEL = LanguageModel(prefill, step)


def logits_after(table, history):
  state = 0
  for token in history:
    state = next_hash(state, int(token))
  return table[state]


def beam_search(table, prompt, settings):
  """The paper's beam search for one prompt, all steps, one history at a time: tokens, score.

  As examples/NLG/src/gpt2_beam.py, with float32 sums. Of equals the first beam and token wins.
  """
  penalty = lambda length: np.float32(float(length) ** settings.length_penalty)
  beams = [([], np.float32(0))]
  best, best_score = None, -np.inf
  for length in range(1, settings.max_tokens + 1):
    candidates = []
    for tokens, total in beams:
      logits = logits_after(table, [*prompt, *tokens]).copy()
      size = settings.no_repeat_ngram
      if size and len(tokens) >= size:
        for start in range(len(tokens) - size + 1):
          *first, last = tokens[start : start + size]
          if first == tokens[len(tokens) - size + 1 :]:
            logits[last] = -np.inf
      norm = np.asarray(jax.nn.logsumexp(logits))
      candidates += [([*tokens, v], (total - norm) + logits[v]) for v in range(len(logits))]
    order = np.argsort([-score for _, score in candidates], kind='stable')
    beams = [candidates[i] for i in order[: settings.width]]
    for i, (tokens, total) in enumerate(beams):
      if tokens[-1] in settings.end_ids:
        if total / penalty(length) > best_score:
          best, best_score = tokens, total / penalty(length)
        beams[i] = tokens, np.float32(-np.inf)
  for tokens, total in beams:
    if total / penalty(settings.max_tokens) > best_score:
      best, best_score = tokens, total / penalty(settings.max_tokens)
  return best, best_score


def table(seed, end_bias=0.0, scale=2.0, ties=False):
  rng = np.random.default_rng(seed)
  if ties:
    # One token has all of the probability in float32: the sums, multiples of 120, are exact.
    values = -120.0 * rng.integers(1, 4, (ROWS, VOCABULARY))
    values[np.arange(ROWS), rng.integers(VOCABULARY, size=ROWS)] = 0
    return values.astype(np.float32)
  values = rng.normal(size=(ROWS, VOCABULARY)) * scale
  values[:, :2] += end_bias
  return values.astype(np.float32)


def prompts(seed, n=11):
  rng = np.random.default_rng(seed)
  return [rng.integers(0, VOCABULARY, rng.integers(1, 9)).astype(np.int32) for _ in range(n)]


def decode(values, contexts, settings, **options):
  stacked = np.broadcast_to(values, (settings.width, *values.shape))
  return generation.make_decoder(MODEL, settings, **options)(stacked, contexts)


ENDS = (0, 1)
CASES = {
  'paper': (Settings(end_ids=ENDS, max_tokens=12), {}),
  'ends come early and often': (Settings(end_ids=ENDS, max_tokens=9), {'end_bias': 4.0}),
  'ends come seldom': (Settings(end_ids=ENDS, max_tokens=8, beams=3), {'end_bias': -4.0}),
  'no end token': (Settings(max_tokens=6, beams=4), {}),
  'ties': (Settings(end_ids=ENDS, max_tokens=8, beams=4), {'ties': True}),
  'nothing but ties': (Settings(end_ids=ENDS, max_tokens=6, beams=5), {'scale': 0.0}),
  'no penalty of length': (Settings(end_ids=ENDS, max_tokens=8, length_penalty=0.0), {}),
  'long texts wanted': (Settings(end_ids=ENDS, max_tokens=12, length_penalty=3.0), {}),
  'short texts wanted': (Settings(end_ids=ENDS, max_tokens=8, length_penalty=-1.0), {}),
  'no token twice': (Settings(end_ids=ENDS, max_tokens=9, no_repeat_ngram=1, beams=4), {}),
  'no pair twice': (
    Settings(end_ids=ENDS, max_tokens=16, no_repeat_ngram=2, beams=3),
    {'scale': 6.0, 'end_bias': -3.0},
  ),
  'repeats allowed': (
    Settings(end_ids=ENDS, max_tokens=32, no_repeat_ngram=0, beams=3),
    {'end_bias': -4.0},
  ),
  'greedy': (Settings(strategy='greedy', end_ids=ENDS, max_tokens=12), {}),
  'one token': (Settings(end_ids=ENDS, max_tokens=1, beams=3), {}),
}


@pytest.mark.parametrize('case', CASES)
def test_equals_the_plain_beam_search(case):
  settings, options = CASES[case]
  values, contexts = table(len(case), **options), prompts(1)
  found = decode(values, contexts, settings, batch_size=4)
  for prompt, generated in zip(contexts, found, strict=True):
    tokens, score = beam_search(values, prompt, settings)
    assert generated.tokens.tolist() == tokens
    np.testing.assert_allclose(generated.score, score, rtol=1e-5)


def test_the_cases_hold_what_they_are_named_for():
  outcomes = {}
  for case in ('ends come early and often', 'ends come seldom', 'no pair twice', 'repeats allowed'):
    settings, options = CASES[case]
    texts = [beam_search(table(len(case), **options), p, settings)[0] for p in prompts(1)]
    outcomes[case] = texts
  ended = lambda text: text[-1] in ENDS
  assert all(ended(text) for text in outcomes['ends come early and often'])
  assert len({len(text) for text in outcomes['ends come early and often']}) > 1
  assert not all(ended(text) for text in outcomes['ends come seldom'])
  pairs = lambda text: list(itertools.pairwise(text))
  assert all(len(set(pairs(text))) == len(pairs(text)) for text in outcomes['no pair twice'])
  assert any(len(set(pairs(text))) < len(pairs(text)) for text in outcomes['repeats allowed'])


@pytest.mark.parametrize('strategy', ['beam', 'sample'])
def test_a_text_does_not_depend_on_the_others(strategy):
  settings = Settings(strategy=strategy, beams=4, end_ids=ENDS, max_tokens=10)
  values, contexts = table(3), [*prompts(1), np.arange(100, dtype=np.int32) % VOCABULARY]
  together = decode(values, contexts, settings, batch_size=16)
  for batch_size in (1, 5):
    found = decode(values, contexts, settings, batch_size=batch_size)
    for one, other in zip(found, together, strict=True):
      assert one.tokens.tolist() == other.tokens.tolist()
      assert one.score == other.score


def test_the_search_stops_when_it_is_decided():
  """The same texts with room for 400 tokens, in far fewer steps than 400."""
  calls = []

  def counted(values, tokens, parents, cache):
    jax.debug.callback(lambda: calls.append(1))
    return step(values, tokens, parents, cache)

  settings = Settings(end_ids=ENDS, max_tokens=400, beams=3, no_repeat_ngram=0)
  values, contexts = table(5, end_bias=3.0), prompts(1, 4)
  stacked = np.broadcast_to(values, (settings.width, *values.shape))
  found = generation.make_decoder(LanguageModel(prefill, counted), settings)(stacked, contexts)
  jax.effects_barrier()
  assert 0 < len(calls) < 200
  for prompt, generated in zip(contexts, found, strict=True):
    assert generated.tokens.tolist() == beam_search(values, prompt, settings)[0]


def test_what_an_interrupted_call_has_decided_is_not_decoded_again():
  """The others get the texts that they had; a text that is given is believed."""
  settings = Settings(strategy='sample', end_ids=ENDS, max_tokens=8)
  values, contexts = table(3, end_bias=1.0), prompts(4)
  decoder = generation.make_decoder(MODEL, settings, batch_size=4)
  stacked = np.broadcast_to(values, (settings.width, *values.shape))
  seen, totals = [], set()
  see = lambda texts, total: seen.append(dict(texts)) or totals.add(total)
  whole = decoder(stacked, contexts, progress=see)
  assert seen[0] == {} and len(seen) > 3 and totals == {len(contexts)}
  assert [*map(len, seen)] == sorted(map(len, seen)) and len(seen[-1]) == len(contexts)
  given = generation.Generated(np.array([2], np.int32), 0.5)
  decided = seen[2] | {max(seen[2]): given}
  seen.clear()
  rest = decoder(stacked, contexts, decided, lambda texts, _: seen.append(len(texts)))
  assert seen[0] == len(decided) and seen[-1] == len(contexts)
  for i, (one, other) in enumerate(zip(rest, whole, strict=True)):
    expected = decided.get(i, other)
    assert one.tokens.tolist() == expected.tokens.tolist() and one.score == expected.score
  assert rest == decoder(stacked, contexts, dict(enumerate(rest)))


def test_over_devices_as_on_one():
  settings = Settings(end_ids=ENDS, max_tokens=8, beams=3)
  values, contexts = table(4), prompts(2, 21)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  alone = decode(values, contexts, settings, batch_size=16)
  spread = decode(values, contexts, settings, batch_size=16, sharding=sharding)
  for one, other in zip(spread, alone, strict=True):
    assert one.tokens.tolist() == other.tokens.tolist()
  with pytest.raises(ValueError, match='batch_size=12 is not a multiple of the 8 devices'):
    decode(values, contexts, settings, batch_size=12, sharding=sharding)


def samples(values, settings, n=4000):
  contexts = [np.array([1], np.int32)] * n
  found = decode(values, contexts, dataclasses.replace(settings, max_tokens=1), batch_size=n)
  return np.bincount([text.tokens[0] for text in found], minlength=VOCABULARY) / n


def test_samples_follow_the_distribution():
  values = table(7, scale=1.0)
  logits = logits_after(values, [1])
  softmax = lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum()
  sampling = Settings(strategy='sample')
  np.testing.assert_allclose(samples(values, sampling), softmax(logits), atol=0.03)
  cold = samples(values, dataclasses.replace(sampling, temperature=0.5))
  np.testing.assert_allclose(cold, softmax(logits / 0.5), atol=0.03)
  order = np.argsort(-logits)
  kept = np.where(np.isin(np.arange(VOCABULARY), order[:3]), logits, -np.inf)
  top_k = samples(values, dataclasses.replace(sampling, top_k=3))
  np.testing.assert_allclose(top_k, softmax(kept), atol=0.03)
  cumulative = np.cumsum(softmax(logits)[order])
  number = int(np.searchsorted(cumulative, 0.6)) + 1  # The fewest that reach 0.6.
  assert 1 < number < VOCABULARY
  kept = np.where(np.isin(np.arange(VOCABULARY), order[:number]), logits, -np.inf)
  top_p = samples(values, dataclasses.replace(sampling, top_p=0.6))
  np.testing.assert_allclose(top_p, softmax(kept), atol=0.03)


def test_samples_depend_on_the_seed_and_end_at_an_end_token():
  settings = Settings(strategy='sample', end_ids=ENDS, max_tokens=30, no_repeat_ngram=0)
  values, contexts = table(8), prompts(3, 30)
  texts = [
    [text.tokens.tolist() for text in decode(values, contexts, settings)],
    [text.tokens.tolist() for text in decode(values, contexts, settings)],
    [
      text.tokens.tolist()
      for text in decode(values, contexts, dataclasses.replace(settings, seed=1))
    ],
  ]
  assert texts[0] == texts[1] != texts[2]
  for text in texts[0]:
    assert not {*text[:-1]} & {*ENDS}
    assert text[-1] in ENDS or len(text) == 30


def of_lengths(*lengths):
  rng = np.random.default_rng(sum(lengths))
  return [rng.integers(0, VOCABULARY, length).astype(np.int32) for length in lengths]


@pytest.fixture
def make_counted(monkeypatch):
  """`make_counted(**options) -> (decode(contexts), compiled())`: how often `admit` was compiled."""
  make = decoding.functions

  def make_counted(**options):
    made = []  # `admit` and `run`; the cache of these models has no columns, so `run` is one.
    monkeypatch.setattr(decoding, 'functions', lambda *args: made.extend(make(*args)) or made)
    settings = Settings(max_tokens=2, beams=2)
    stacked = np.broadcast_to(table(0), (2, ROWS, VOCABULARY))
    decode = generation.make_decoder(MODEL, settings, **options)
    return functools.partial(decode, stacked), lambda: made[0]._cache_size()

  return make_counted


@pytest.mark.parametrize('cost, shapes', [(0.0, 3), (1e9, 1)])
def test_one_compilation_for_each_length(make_counted, cost, shapes):
  decode, compiled = make_counted(batch_size=2, length_cost=cost)
  contexts = of_lengths(3, 64, 100, 128, 129, 130, 5)
  decode(contexts)
  assert compiled() == shapes
  decode(contexts)
  decode(contexts[4:6])  # Others of one of the lengths.
  assert compiled() == shapes


@pytest.mark.parametrize('strategy', ['beam', 'sample'])
def test_a_text_does_not_depend_on_the_length_that_its_prompt_is_padded_to(strategy):
  settings = Settings(strategy=strategy, beams=3, end_ids=ENDS, max_tokens=8)
  values, contexts = table(6), of_lengths(5, 64, 70, 100, 128, 140, 1)
  texts = [
    [text.tokens.tolist() for text in decode(values, contexts, settings, length_cost=cost)]
    for cost in (0.0, 1e9)
  ]
  assert texts[0] == texts[1]


def test_the_cost_decides_between_padding_and_lengths():
  lengths = [20, 63, 64, 65, 120, 128, 129, 250]
  least = {64: [0, 1, 2], 96: [3], 128: [4, 5], 192: [6], 256: [7]}
  assert decoding.plan(lengths, 0.0) == least
  assert decoding.plan(lengths, 1e9) == {256: [*range(8)]}
  # Without 96 the columns are 32 more, without 192 another 64, and without 64 then 3 x 64 more.
  assert [*decoding.plan(lengths, 33)] == [64, 128, 192, 256]
  assert [*decoding.plan(lengths, 65)] == [64, 128, 256]
  assert [*decoding.plan(lengths, 193)] == [128, 256]
  assert decoding.plan([], 0.0) == {}
  assert decoding.plan([64], 0.0) == {64: [0]} and decoding.plan([97], 0.0) == {112: [0]}


def test_no_length_is_beyond_the_most_columns():
  """A model may have no positions for more."""
  assert decoding.plan([5, 17], 0.0) == {32: [0, 1]}
  assert decoding.plan([5, 17, 70], 0.0, max_length=75) == {64: [0, 1], 75: [2]}
  assert decoding.plan([5, 17], 1e9, max_length=40) == {40: [0, 1]}
  # Calls with other prompts share their lengths, but for the last one without a bound.
  assert [*decoding.plan([100], 0.0, 500)] == [*decoding.plan([120], 0.0, 500)] == [128]
  assert [*decoding.plan([100], 0.0)] == [112]


@pytest.mark.parametrize('cost', [0.0, 50.0, 500.0, 5000.0])
def test_no_other_choice_costs_less(cost):
  rng = np.random.default_rng(int(cost))
  candidates = (64, 96, 128, 192, 256, 384)
  for n in (1, 5, 40):
    lengths = rng.integers(1, 384, n)
    lengths[0] = 384
    totals = [
      sum(min(end for end in ends if end >= length) for length in lengths) + cost * len(ends)
      for count in range(1, len(candidates) + 1)
      for ends in itertools.combinations(candidates, count)
      if ends[-1] >= lengths.max()
    ]
    found = decoding.plan(lengths.tolist(), cost)
    assert sorted(itertools.chain(*found.values())) == [*range(n)]
    assert all(lengths[i] <= end for end, indices in found.items() for i in indices)
    total = sum(len(indices) * end for end, indices in found.items()) + cost * len(found)
    assert total == min(totals)


MISTAKES = {
  "strategy='beams'": dict(strategy='beams'),
  'beams=0: expected at least 1': dict(beams=0),
  'top_k=-1: expected at least 0': dict(top_k=-1),
  'temperature=0.0': dict(temperature=0.0),
  'top_p=1.5': dict(top_p=1.5),
}


@pytest.mark.parametrize('message', MISTAKES)
def test_settings_out_of_range(message):
  with pytest.raises(ValueError, match=message):
    Settings(**MISTAKES[message])


def test_an_empty_prompt_and_logits_that_are_not_finite():
  with pytest.raises(ValueError, match='prompt 1 is empty'):
    decode(table(0), [np.ones(1, np.int32), np.ones(0, np.int32)], Settings(max_tokens=2))
  with pytest.raises(FloatingPointError, match='prompt 0'):
    decode(table(0) * np.nan, [np.ones(1, np.int32)], Settings(max_tokens=2))
  with pytest.raises(ValueError, match='beams=14: expected at most the size of the vocabulary, 13'):
    decode(table(0), [np.ones(1, np.int32)], Settings(max_tokens=2, beams=14))
