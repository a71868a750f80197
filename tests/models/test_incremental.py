"""Decoding step by step equals the whole sequence at once, and greedy texts are transformers'."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import generation, methods
from lora_jax.generation import LanguageModel, Settings
from lora_jax.models import gpt2, incremental, llama, presets
from lora_jax.pretrained.huggingface import load_model

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden/models/gpt2'
CONFIG = gpt2.GPT2Config(
  vocab_size=97, max_positions=64, hidden_size=24, num_layers=2, num_heads=3, intermediate_size=40
)
LLAMA = llama.LlamaConfig(
  vocab_size=97, max_positions=64, hidden_size=24, num_layers=2, num_heads=6, num_kv_heads=2,
  head_width=4, intermediate_size=40, normed=True, rope_factor=8.0, rope_original=16,
)  # fmt: skip
BEAMS, STEPS = 4, 5
CASES = {
  'looped': dict(),
  'scanned': dict(scan=True),
  'looped, bfloat16': dict(dtype=jnp.bfloat16),
  'an adapter': dict(method=methods.adapter_l(bottleneck=4)),
  'a Llama, two heads of keys for six': dict(config=LLAMA),
  'a Llama, a scanned one': dict(config=LLAMA, scan=True),
  'a prefix at every layer': dict(method=methods.prefix_layer(prefix=2, infix=1), scan=True),
}
LORA = methods.lora(rank=2, alpha=8, targets='.*/(query|value)')


def adapted(method=LORA, config=CONFIG, **options):
  """A model with a method's parameters that are not zero, as `apply(ids, ...)`."""
  model = presets.MODELS[config.family](config, **options)
  ids = jnp.zeros((1, 8), jnp.int32)
  params = model.init(jax.random.key(0), ids)['params']
  frozen, trainable = method.init(jax.random.key(1), model, params, ids)
  trainable = jax.tree.map(lambda x: jax.random.normal(jax.random.key(2), x.shape), trainable)
  return functools.partial(methods.bind(model.apply, method), frozen, trainable)


@pytest.mark.parametrize('case', CASES)
def test_cached_equals_uncached(case):
  apply = adapted(**CASES[case])
  rng = np.random.default_rng(0)
  lengths = np.array([10, 4, 1], np.int32)
  ids = rng.integers(0, CONFIG.vocab_size, (3, 10)).astype(np.int32)  # Junk beyond the lengths.
  if 'prefix' in case:
    ids[:2, [0, 1, 3]] = CONFIG.vocab_size + np.arange(3)
  prefill = functools.partial(incremental.prefill, apply, beams=BEAMS, max_tokens=STEPS)
  logits, cache = jax.jit(prefill)(ids, lengths)
  step = jax.jit(functools.partial(incremental.step, apply))
  history = np.zeros((3, BEAMS, 0), np.int32)
  whole = jax.jit(lambda ids, segments: apply(ids, segment_ids=segments))
  tolerance = 0.02 if 'bfloat16' in case else 2e-6
  for t in range(STEPS + 1):
    rows = [
      np.concatenate([ids[b, : lengths[b]], history[b, k]]) for b in range(3) for k in range(BEAMS)
    ]
    padded = np.array([np.pad(row, (0, 10 + STEPS - len(row))) for row in rows])
    segments = np.array([np.arange(10 + STEPS) < len(row) for row in rows]).astype(np.int32)
    expected = whole(padded, segments)[np.arange(len(rows)), [len(row) - 1 for row in rows]]
    expected = np.asarray(expected).reshape(3, BEAMS, -1)
    found = np.broadcast_to(logits[:, None], expected.shape) if t == 0 else logits
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    if t < STEPS:
      parents = rng.integers(0, BEAMS, (3, BEAMS)).astype(np.int32)
      tokens = rng.integers(0, CONFIG.vocab_size, (3, BEAMS)).astype(np.int32)
      history = np.take_along_axis(history, parents[:, :, None], axis=1)
      history = np.concatenate([history, tokens[:, :, None]], axis=-1)
      logits, cache = step(tokens, parents, cache)


def test_no_copy_of_the_prompt_for_each_beam():
  """A cache of K beams is larger than that of one by the generated columns alone."""
  apply, ids, lengths = adapted(), jnp.zeros((3, 10), jnp.int32), jnp.ones(3, jnp.int32)

  def size(beams):
    prefill = functools.partial(incremental.prefill, apply, beams=beams, max_tokens=STEPS)
    _, cache = jax.eval_shape(prefill, ids, lengths)
    return sum(leaf.size for leaf in jax.tree.leaves(cache.layers))

  per_column = 3 * 2 * CONFIG.num_layers * CONFIG.hidden_size
  assert size(1) == per_column * (10 + STEPS)
  assert size(BEAMS) == per_column * (10 + BEAMS * STEPS)


@pytest.mark.parametrize('scan', [False, True])
def test_greedy_texts_are_those_of_transformers(scan):
  expected = np.load(GOLDEN / 'greedy.npz')
  model, params = load_model(GOLDEN, task='lm', scan=scan)
  settings = Settings(
    strategy='greedy', end_ids=(int(expected['end']),), max_tokens=10, no_repeat_ngram=1
  )
  apply = methods.bind(model.apply, methods.full())
  bound = lambda params: functools.partial(apply, {}, params)
  language_model = LanguageModel(
    lambda params, *inputs: incremental.prefill(bound(params), *inputs, beams=1, max_tokens=10),
    lambda params, *inputs: incremental.step(bound(params), *inputs),
  )
  prompts = [row[:n] for row, n in zip(expected['prompts'], expected['lengths'])]
  found = generation.make_decoder(language_model, settings, batch_size=3)(params, prompts)
  texts = [row[:n].tolist() for row, n in zip(expected['texts'], expected['text_lengths'])]
  assert {len(text) for text in texts} > {10}  # Some end, some do not.
  assert [text.tokens.tolist() for text in found] == texts
