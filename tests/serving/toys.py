"""A bank of small adapters that differ in every way, and what each computes alone."""

import functools
import zlib

import jax
import numpy as np

from lora_jax import methods, stacking
from lora_jax.adapters.adapter import Adapter, attach
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.models import presets
from lora_jax.serving import BASE, Bank

SIZES = dict(vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, max_positions=32)
LENGTH, ROWS = 7, 6
OPTIONS = {  # Of each adapter: (labels, options of lora).
  'small': (2, dict(rank=1, alpha=3.0)),
  'rs': (3, dict(rank=4, alpha=5.0, rslora=True, targets='.*/(query|key|value|output|up|down)')),
  'ranks': (1, dict(rank={'.*/query': 3, '.*': 2}, alpha={'.*/value': 2.0, '.*': 9.0})),
  'early': (3, dict(rank=2, alpha=40.0, targets='.*layers_0/.*query')),
  'words': (2, dict(rank=2, alpha=4.0, targets=('embeddings/word', '.*/value'), bias='adapted')),
}
NAMES = ('rs', 'small', BASE, 'ranks', 'early', 'words')  # Of the rows of a batch.
CHECKED = {
  'bert': ('rs', BASE, 'ranks', 'early', 'words'),
  'gpt2': ('rs', BASE, 'words'),
}  # Each is compiled on its own.


def drawn(shapes, seed=0):
  """Values that depend on the path and the seed: a base is the same whatever its head."""

  def draw(path, shape):
    random = np.random.default_rng([seed, zlib.crc32(jax.tree_util.keystr(path).encode())])
    return 0.2 * random.standard_normal(shape.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def base(family, labels=2, **options):
  """A model and its parameters, drawn without compiling anything."""
  config = presets.architecture(family, **SIZES)
  lm = family == 'gpt2'
  kind = dict(task='lm') if lm else dict(task='classification', num_labels=labels)
  model = presets.build(config, **kind, **options)
  return model, drawn(jax.eval_shape(model.init, jax.random.key(0), presets.TOKENS)['params'])


def scanned(family):
  """The same base with its layers stacked, which compiles faster."""
  params = stacking.stack(base(family)[1], SIZES['num_layers'])
  return base(family, scan=True)[0], params


def make(name, family, seed=1):
  """An adapter of `OPTIONS`, every leaf away from where it began."""
  labels, options = OPTIONS[name]
  model, params = base(family, labels)
  options = dict(name='lora', train=model.head, **options)
  init = methods.make(**options).init
  shapes = jax.eval_shape(lambda p: init(jax.random.key(1), model, p, presets.TOKENS), params)[1]
  known = fingerprint(base(family)[1], model.config)
  task = {'gpt2': 'lm'}.get(family, 'regression' if labels == 1 else 'classification')
  labels = 0 if family == 'gpt2' else labels
  trained = drawn(shapes, seed + sum(map(ord, name)))
  return Adapter(options, trained, model.config, task, labels, 'toy', known)


@functools.cache
def inputs():
  ids = np.random.default_rng(3).integers(0, 50, (ROWS, LENGTH)).astype(np.int32)
  segments = np.ones_like(ids)
  segments[1, 4:] = segments[3, 5:] = 0
  return {'input_ids': ids, 'segment_ids': segments}


@functools.cache
def alone(name, family, row):
  """What `bind` makes of one example and its adapter."""
  own = {key: value[[row]] for key, value in inputs().items()}
  if name == BASE:
    model, params = base(family)
    return np.asarray(jax.jit(model.apply)({'params': params}, **own))[0]
  adapter = make(name, family)
  model, params = base(family, adapter.num_labels or 2)
  method, frozen, trainable = attach(adapter, model, params)
  return np.asarray(jax.jit(methods.bind(model.apply, method))(frozen, trainable, **own))[0]


@functools.cache
def bank_of(family, scan=False):
  """A bank of all adapters, with room for one more."""
  model, params = scanned(family) if scan else base(family)
  adapters = {name: make(name, family) for name in OPTIONS}
  return Bank.of(model, params, adapters, capacity=len(OPTIONS) + 1)


@functools.cache
def mixed(family, scan=False):
  """Its answers to a mixed batch."""
  return np.asarray(bank_of(family, scan)(NAMES, **inputs()))
