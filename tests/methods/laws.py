"""Every method with its options, and small models of every family to adapt with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import methods, tree
from lora_jax.models import presets

VOCABULARY, PREFIX, INFIX = 50, 3, 2
SIZES = dict(
  vocab_size=VOCABULARY, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32,
  max_positions=32, initializer_range=0.3,
)  # fmt: skip
FAMILIES = ('roberta', 'deberta-v2', 'gpt2', 'qwen2')  # Of Llamas the one with biases, for bitfit.
DECODERS = ('gpt2', 'qwen2')
OWN_SIZES = {
  'deberta-v2': dict(position_buckets=8, convolution=3),
  'qwen2': dict(num_kv_heads=1, head_width=8, biased=True),
}
TOKENS = dict(prefix=PREFIX, infix=INFIX)
FACTORS = dict(rank=2, alpha=4.0, targets='.*/(query|value)')
# Options of lora; what they compute, they compute at each site alone, as lora does, so that laws of
# whole models run on an encoder by default; on the others they are slow (test_laws.py).
# test_lora.py has every kind of layer.
VARIANTS = {
  'rslora': dict(name='lora', rslora=True),
  'lora_fa': dict(name='lora', train_a=False),
  'dora': dict(name='lora', dora=True),
  'pissa': dict(name='lora', init='pissa'),
  'olora': dict(name='lora', init='olora'),
}
METHODS = {
  'full': {},
  'lora': FACTORS,
  'vera': dict(rank=3, targets=FACTORS['targets']),
  **{variant: FACTORS | options for variant, options in VARIANTS.items()},
  'bitfit': {},
  'top_layers': dict(layers=1),
  'adapter_h': dict(bottleneck=4),
  'adapter_l': dict(bottleneck=4),
  'adapter_p': dict(bottleneck=4),
  'adapter_d': dict(bottleneck=4, drop=1),
  'prefix_embed': TOKENS,
  'prefix_layer': TOKENS,
  'intrinsic': dict(dimension=40, variant='said'),
  'lora+prefix_embed': FACTORS | TOKENS,
  'lora+prefix_layer': FACTORS | TOKENS,
}


@functools.cache  # One model, and so one compilation of it, for all methods.
def build(family, scan=False):
  config = presets.architecture(family, **SIZES | OWN_SIZES.get(family, {}))
  options = dict(hidden_dropout=0.0, attention_dropout=0.0)
  options |= {} if family in DECODERS else dict(num_labels=3, classifier_dropout=0.0)
  model = presets.build(
    config, task='lm' if family in DECODERS else 'classification', scan=scan, **options
  )
  return model, draw(presets.abstract_params(model))


def draw(shapes):
  """Normal values in the place of shapes, norms about one. In NumPy: nothing to compile."""
  rng = np.random.default_rng(0)
  normal = lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape, np.float32))
  leaves = {path: normal(x) for path, x in tree.flatten(shapes).items()}
  norms = {path: 1 + x for path, x in leaves.items() if path.endswith('scale')}
  return tree.unflatten(leaves | norms)


@functools.cache  # One function, and so one compilation, for all methods.
def compiled(family):
  """`apply({'params': params}, **inputs)` of the model without a method."""
  return jax.jit(build(family)[0].apply)


def batch(name):
  """Two rows of two segments each; those of a prefix method have its tokens."""
  rng = np.random.default_rng(0)

  def segment(number, size):
    ids = rng.integers(1, VOCABULARY, size)
    if 'prefix' in name:
      new = VOCABULARY + np.arange(PREFIX + INFIX)
      ids = np.concatenate([ids[:1], new[:PREFIX], ids[1:], new[PREFIX:]])
    return ids, np.full(len(ids), number)

  rows = [[segment(1, 5), segment(2, 4)], [segment(1, 3), segment(2, 6)]]
  join = lambda row, i: np.concatenate([part[i] for part in row])
  ids, segments = (jnp.array([join(row, i) for row in rows], jnp.int32) for i in (0, 1))
  prediction_positions = jnp.array(
    [[len(row[0][0]) - 1, len(row[0][0])] for row in rows], jnp.int32
  )
  return dict(input_ids=ids, segment_ids=segments, prediction_positions=prediction_positions)


def make(name, **options):
  return methods.make(**{'name': name} | METHODS[name] | options)


def adapted_model(name, family, scan=False):
  model, params = build(family, scan)
  method = make(name, **({} if name == 'full' else dict(train=model.head)))
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  frozen, trainable = method.init(jax.random.key(1), model, params, tokens)
  return model, params, method, frozen, trainable


def move(trainable, key=5):
  """All leaves moved, so that nothing is zero that must not be. In NumPy: nothing to compile."""
  rng = np.random.default_rng(key)
  move = lambda x: np.asarray(x) + 0.2 * rng.standard_normal(x.shape, np.float32)
  return jax.tree.map(move, trainable)
