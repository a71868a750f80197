"""Seconds of a batch in which adapters are mixed, and bytes of a full bank of them."""

from __future__ import annotations

import functools
import time
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from lora_jax import methods, serving, tree
from lora_jax.adapters import adapter
from lora_jax.bench.timing import SHAPES, Measured, in_turn, seconds_of
from lora_jax.models.presets import TOKENS
from lora_jax.pretrained import fresh_model


def mixing(
  shape: str, dtype: str, rows: int, length: int, rounds: int, adapters: int = 8
) -> Measured:
  """Seconds of a batch of several adapters, of one adapter that is not merged, and of the base.

  Args:
    shape: of the base, a key of `SHAPES`.
    dtype: of compute and base.
    rows, length: of the batch.
    rounds: timed rounds.
    adapters: number of them in the batch.
  """
  model, params, options, made = lora_adapters(shape, dtype, adapters)
  bank = serving.Bank(model, params, capacity=adapters, rank=options['rank'])
  for i, one in enumerate(made):
    bank.add(f'adapter {i}', one)
  ids = np.random.default_rng(0).integers(1000, 20000, (rows, length)).astype(np.int32)
  inputs = {'input_ids': ids, 'segment_ids': np.ones_like(ids)}
  method, *parts = adapter.attach(made[0], model, params)
  parts = jax.device_put(parts)
  names = [f'adapter {i % adapters}' for i in range(rows)]
  runs = {
    f'{adapters} adapters': lambda: bank(names, **inputs),
    'base': functools.partial(jax.jit(model.apply), {'params': jax.device_put(params)}, **inputs),
    '1 adapter': functools.partial(jax.jit(methods.bind(model.apply, method)), *parts, **inputs),
  }
  times = in_turn({name: functools.partial(seconds_of, run) for name, run in runs.items()}, rounds)
  found = {
    name: {'seconds': value, 'seconds_ratio': value / times['1 adapter']}
    for name, value in times.items()
  }
  return Measured(found, 'Seconds of a forward pass; a ratio of 1 means that mixing costs nothing.')


def filling(shape: str, dtype: str, adapters: int = 1000) -> Measured:
  """Bytes of a full bank of factors, what heads would add, and seconds to put an adapter in."""
  model, params, options, (one,) = lora_adapters(shape, dtype, 1)
  factors, head = tree.split(one.trainable, model.head)
  headless = one._replace(method={**one.method, 'train': ()}, trainable=factors)
  bank = serving.Bank(model, params, capacity=adapters, rank=options['rank'], train=())
  began = time.perf_counter()
  for i in range(adapters):
    bank.add(str(i), headless)
  jax.block_until_ready(bank.arrays)
  row = {
    'bytes': bank.nbytes,
    'bytes_of_heads': tree.nbytes(head) * (adapters + 1),
    'seconds_each': (time.perf_counter() - began) / adapters,
    'compilations': bank.compilations,
  }
  note = 'Bytes of a full bank of factors and, beside them, of heads; seconds to put an adapter in.'
  return Measured({f'{adapters} adapters': row}, note)


def lora_adapters(
  shape: str, dtype: str, count: int
) -> tuple[nn.Module, tree.Params, dict[str, Any], list[adapter.Adapter]]:
  """A fresh encoder of a shape, and adapters of it: r=8, query and value, all values random."""
  model, params = fresh_model(
    SHAPES[shape], task='classification', num_labels=2, dtype=dtype, param_dtype=dtype
  )
  options = dict(name='lora', rank=8, alpha=16.0, train=model.head)
  init = methods.make(**options).init
  shapes = jax.eval_shape(lambda: init(jax.random.key(0), model, params, TOKENS)[1])
  random = np.random.default_rng(0)
  draw = lambda leaf: random.normal(0, 0.02, leaf.shape).astype(np.float32)
  made = [
    adapter.Adapter(options, jax.tree.map(draw, shapes), model.config, 'classification', 2)
    for _ in range(count)
  ]
  return model, params, options, made
