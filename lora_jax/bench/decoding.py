"""Seconds and bytes of decoding by the width of the beam."""

from __future__ import annotations

import statistics
import time

import numpy as np

from lora_jax import generation, methods
from lora_jax.bench.timing import Measured, Rows
from lora_jax.cost import program
from lora_jax.pretrained import fresh_model
from lora_jax.train import generate

SHAPE = dict(hidden_size=384, num_layers=6, num_heads=6, max_positions=512, intermediate_size=1536)
VOCABULARY = 50257  # GPT-2's.


def beams(contexts: int, dtype: str, widths: tuple[int, ...] = (10, 5, 1)) -> Measured:
  """Seconds and bytes of decoding 64 tokens after each context by a GPT-2 of 6 layers.

  Nothing ends a text, so all steps are run.

  Args:
    contexts: number of prompts; their lengths are as E2E's.
    dtype: of the model.
    widths: of the beam.
  """
  config = dict(family='gpt2', vocab_size=VOCABULARY, **SHAPE)
  model, params = fresh_model(config, task='lm', dtype=dtype)
  parts = {}, params
  random = np.random.default_rng(0)
  lengths = random.integers(25, 62, contexts)
  prompts = [random.integers(0, 50000, length).astype(np.int32) for length in lengths]
  slots, itemsize = min(32, contexts), np.dtype(dtype).itemsize
  rows: Rows = {}
  for width in widths:
    settings = generation.Settings(beams=width)
    language_model = generate.language_model(methods.bind(model.apply, methods.full()), settings)
    decode = generation.make_decoder(language_model, settings, batch_size=slots)
    times = []
    for _ in range(4):  # The first time it compiles.
      began = time.perf_counter()
      decode(parts, prompts)
      times.append(time.perf_counter() - began)
    _, run = generation.decode.functions(language_model, settings)
    state = generation.decode.empty_slots(language_model, parts, settings, slots, 64)
    size = program.size(run.lower(parts, state, 0).compile())
    cached = 2 * SHAPE['num_layers'] * SHAPE['hidden_size'] * itemsize
    rows[f'beam {width}'] = {
      'seconds': (seconds := statistics.median(times[1:])),
      'compiling': times[0] - seconds,
      'peak_bytes': size.peak,
      'cache_of_beams': slots * width * settings.max_tokens * cached,
      'logits': slots * width * VOCABULARY * 4,
    }
  note = (
    f'Seconds of generating 64 tokens after each of {contexts} contexts, the '
    'median of three runs after one that compiles; bytes of the compiled loop.'
  )
  return Measured(rows, note)
