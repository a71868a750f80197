"""Small base models and adapters of every method, drawn without compiling anything."""

import functools

import jax
import numpy as np

from lora_jax import methods, stacking, tree
from lora_jax.adapters.adapter import Adapter
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.models import presets

SIZES = dict(vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, max_positions=32)
TOKENS = dict(prefix=3, infix=2)
FACTORS = dict(
  rank={'.*/query': 3, '.*': 2},
  alpha={'.*layers.*/query': 6.0, '.*': 4.0},
  rslora=True,
  targets=('.*/(query|value)',),
)
METHODS = {
  'full': {},
  'lora': FACTORS,
  'vera': dict(rank=3, targets=FACTORS['targets']),
  'bitfit': {},
  'top_layers': dict(layers=1),
  'adapter_h': dict(bottleneck=4),
  'adapter_l': dict(bottleneck=4),
  'adapter_p': dict(bottleneck=4, activation='gelu'),
  'adapter_d': dict(bottleneck=4, drop=1),
  'prefix_embed': TOKENS,
  'prefix_layer': TOKENS,
  'intrinsic': dict(dimension=9, variant='said', subspace=3),
  'lora+prefix_layer': FACTORS | TOKENS,
}
NUMBERED = ('top_layers', 'adapter_d')  # Methods of single layers, which scanned models lack.


def draw(shapes, seed=0):
  normal = np.random.default_rng(seed).standard_normal
  return jax.tree.map(lambda x: 0.2 * normal(x.shape).astype(np.float32), shapes)


@functools.cache
def base(family='roberta', **sizes):
  """A model and its parameters, drawn without compiling anything."""
  own = dict(position_buckets=8, convolution=3) if family == 'deberta-v2' else {}
  config = presets.architecture(family, **SIZES | own | sizes)
  labels = {} if family == 'gpt2' else dict(num_labels=3)
  task = 'lm' if family == 'gpt2' else 'classification'
  model = presets.build(config, task=task, **labels)
  return model, draw(jax.eval_shape(model.init, jax.random.key(0), presets.TOKENS)['params'])


def make(name='lora', family='roberta', options=None):
  """An adapter of a method; no leaf has its initial value."""
  model, params = base(family)
  train = {} if name == 'full' else dict(train=model.head)
  options = dict(name=name, **METHODS[name], **train) | (options or {})
  init = methods.make(**options).init
  shapes = jax.eval_shape(lambda p: init(jax.random.key(1), model, p, presets.TOKENS), params)[1]
  return Adapter(
    method=options,
    trainable=draw(shapes, seed=1),
    config=model.config,
    task='lm' if family == 'gpt2' else 'classification',
    num_labels=getattr(model, 'num_labels', 0),
    base='some/base',
    fingerprint=fingerprint(params, model.config),
  )


def scanned(family='roberta'):
  model, params = base(family)
  return model.clone(scan=True), stacking.stack(params, SIZES['num_layers'])


def same(found, expected):
  found, expected = tree.flatten(found), tree.flatten(expected)
  assert found.keys() == expected.keys()
  for path in expected:
    np.testing.assert_array_equal(found[path], expected[path], err_msg=path)
