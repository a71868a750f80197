"""Laws that every method keeps, over all methods, families of models and layouts of layers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_jax import methods, tree
from lora_jax.models import presets
from lora_jax.train import checkpoints, mesh
from lora_jax.train.step import init_state
from tests.methods import toys

VOCABULARY, PREFIX, INFIX = 50, 3, 2
SIZES = dict(
  vocab_size=VOCABULARY, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32,
  max_positions=32, initializer_range=0.3,
)  # fmt: skip
FAMILIES = ('roberta', 'deberta-v2', 'gpt2')
OWN_SIZES = {'deberta-v2': dict(position_buckets=8, convolution=3)}
TOKENS = dict(prefix=PREFIX, infix=INFIX)
FACTORS = dict(rank=2, alpha=4.0, targets='.*/(query|value)')
METHODS = {
  'full': {},
  'lora': FACTORS,
  'bitfit': {},
  'top_layers': dict(layers=1),
  'adapter_h': dict(bottleneck=4),
  'adapter_l': dict(bottleneck=4),
  'adapter_p': dict(bottleneck=4),
  'adapter_d': dict(bottleneck=4, drop=1),
  'prefix_embed': TOKENS,
  'prefix_layer': TOKENS,
  'lora+prefix_embed': FACTORS | TOKENS,
  'lora+prefix_layer': FACTORS | TOKENS,
}
# What is in the layers' numbers cannot be had of layers in one array.
NUMBERED = ('top_layers', 'adapter_d')
MERGES = ('full', 'lora', 'bitfit', 'top_layers')


@functools.cache  # One model, and so one compilation of it, for all methods.
def build(family, scan=False):
  config = presets.architecture(family, **SIZES | OWN_SIZES.get(family, {}))
  options = dict(hidden_dropout=0.0, attention_dropout=0.0)
  options |= {} if family == 'gpt2' else dict(num_labels=3, classifier_dropout=0.0)
  model = presets.build(
    config, task='lm' if family == 'gpt2' else 'classification', scan=scan, **options
  )
  params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))['params']
  return model, params


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


def adapted(name, family, scan=False):
  model, params = build(family, scan)
  method = methods.make(name, **METHODS[name], **({} if name == 'full' else dict(train=model.head)))
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  frozen, trainable = method.init(jax.random.key(1), model, params, tokens)
  return model, params, method, frozen, trainable


def disturbed(trainable, key=5):
  """All leaves moved, so that nothing is zero that must not be. In NumPy: nothing to compile."""
  rng = np.random.default_rng(key)
  move = lambda x: np.asarray(x) + 0.2 * rng.standard_normal(x.shape, np.float32)
  return jax.tree.map(move, trainable)


def one_step(apply, frozen, trainable, inputs):
  def loss(trainable):
    logits = apply(frozen, trainable, **inputs)
    return -jnp.mean(jax.nn.log_softmax(logits)[..., 1])

  optimizer = optax.adam(1e-2)
  grads = jax.grad(loss)(trainable)
  updates, _ = optimizer.update(grads, optimizer.init(trainable))
  return optax.apply_updates(trainable, updates), grads


@functools.cache  # For two tests.
def stepped(name, family):
  """A step of eight rows: the compiled function, its arguments, what it gave on one device."""
  model, _, method, frozen, trainable = adapted(name, family)
  take_step = jax.jit(functools.partial(one_step, methods.bind(model.apply, method)))
  start = disturbed(trainable)
  inputs = {key: jnp.tile(x, (4, 1)) for key, x in batch(name).items()}
  return take_step, frozen, start, inputs, take_step(frozen, start, inputs)


SLOW = pytest.param('deberta-v2', marks=pytest.mark.slow)  # Five seconds of compiling each.


@pytest.mark.parametrize('family', ['roberta', 'gpt2', SLOW])
@pytest.mark.parametrize('name', METHODS)
def test_a_method(name, family):
  model, params, method, frozen, trainable = adapted(name, family)
  apply = methods.bind(model.apply, method)
  _, _, _, inputs, (moved, grads) = stepped(name, family)

  # The parts are disjoint, and hold the model's parameters as they were.
  leaves = tree.flatten(tree.join(frozen, trainable))
  for path, leaf in tree.flatten(params).items():
    np.testing.assert_array_equal(leaves[path], leaf)

  # At the start the adapted model is the base, but for a prefix, whose tokens the base lacks.
  found = jax.jit(apply)(frozen, trainable, **inputs)
  assert np.isfinite(found).all()
  if 'prefix' not in name:
    base = jax.jit(model.apply)({'params': params}, **inputs)
    # Adding zero is exact; the compiler orders what is around it in another way.
    np.testing.assert_allclose(found, base, atol=2e-6 * np.abs(base).max())

  # A step moves every trained leaf. A second one: a factor of zero hides the other's gradient.
  # Nothing but the head's last bias learns of a bias that the softmax cancels: that of the keys.
  still = {path for path, g in tree.flatten(grads).items() if np.abs(g).max() < 1e-9}
  assert all('key/bias' in path or _out_of_reach(path, family) for path in still), still
  changed = jax.jit(apply)(frozen, moved, **inputs)
  assert np.abs(changed - found).max() > 1e-4

  # Merged, where that is possible.
  if name in MERGES:
    merged = jax.jit(model.apply)({'params': method.merge(frozen, moved)}, **inputs)
    np.testing.assert_allclose(merged, changed, atol=2e-5 * np.abs(changed).max())
  else:
    with pytest.raises(ValueError, match='no weights of the base model compute it'):
      method.merge(frozen, moved)


def _out_of_reach(path, family):
  """Parameters whose output no read-out sees: token types that the batch has not, positions."""
  return path.startswith('embeddings/')


@pytest.mark.parametrize('family', ['roberta', 'gpt2'])
@pytest.mark.parametrize('name', [name for name in METHODS if name not in ('full', 'bitfit')])
def test_scanned_layers_are_the_looped_ones(name, family):
  if name in NUMBERED:
    with pytest.raises(ValueError, match=r'scan=False'):
      adapted(name, family, scan=True)
    return
  model, _, method, frozen, trainable = adapted(name, family)
  trainable, inputs = disturbed(trainable), batch(name)
  looped = jax.jit(methods.bind(model.apply, method))(frozen, trainable, **inputs)
  scanned, _, method, *declared = adapted(name, family, scan=True)
  parts = [stacked(part) for part in (frozen, trainable)]
  for part, expected in zip(parts, declared):
    assert jax.tree.map(jnp.shape, part) == jax.tree.map(jnp.shape, tree.join(expected))
  found = jax.jit(methods.bind(scanned.apply, method))(*parts, **inputs)
  np.testing.assert_allclose(found, looped, atol=1e-5 * np.abs(looped).max())


def stacked(part):
  """The leaves of layers_0, layers_1, ... as one array each, under layers."""
  found, leaves = {}, tree.flatten(part)
  for path, leaf in leaves.items():
    if '/layers_0/' in path:
      numbered = [path.replace('/layers_0/', f'/layers_{i}/') for i in range(SIZES['num_layers'])]
      found[path.replace('/layers_0/', '/layers/')] = jnp.stack([leaves[p] for p in numbered])
    elif '/layers_' not in path:
      found[path] = leaf
  return tree.unflatten(found)


EIGHT = ('full', 'lora', 'adapter_h', 'prefix_layer')  # The others are slow: a minute of compiling.


@pytest.mark.parametrize(
  ('name', 'family'),
  [
    pytest.param(
      name, family, marks=() if (name in EIGHT and family == 'roberta') else pytest.mark.slow
    )
    for name in METHODS
    for family in ('roberta', 'gpt2', 'deberta-v2')
  ],
)
def test_eight_devices_make_the_step_of_one(name, family):
  take_step, frozen, start, inputs, (_, expected) = stepped(name, family)
  before = jax.tree.map(np.array, frozen)
  eight = mesh.make_mesh(8)
  placed = mesh.place(frozen, eight, family)
  _, found = take_step(
    placed,
    jax.device_put(start, mesh.replicated(eight)),
    jax.device_put(inputs, mesh.evaluation_rows(eight)),
  )
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max() + 1e-7)
  jax.tree.map(close, found, expected)
  jax.tree.map(np.testing.assert_array_equal, placed, before)  # No frozen leaf has changed.


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', METHODS)
def test_a_checkpoint_restores_what_is_trained(name, family, tmp_path):
  trainable = disturbed(adapted(name, family)[-1])
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(init_state(trainable, optax.sgd(0.1), 0), {'history': []}, 0.5)
  saved.close()
  saved = checkpoints.Checkpoints(tmp_path)
  restored = saved.restore_trainable(saved.best_step())
  jax.tree.map(np.testing.assert_array_equal, restored, tree.join(trainable))
  saved.close()


class Plain(nn.Module):
  """A model with no place that a method knows: no bias, no block, no embedding."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3, use_bias=False, name='only')(x)


@pytest.mark.parametrize('name', [name for name in METHODS if name != 'full'])
def test_a_model_that_a_method_cannot_take_is_told_which_and_why(name):
  model = Plain()
  params = model.init(toys.KEY, toys.X)['params']
  method = methods.make(name, **METHODS[name])
  with pytest.raises(ValueError) as error:
    method.init(toys.KEY, model, params, toys.X)
  message = str(error.value)
  assert name.split('+')[0] in message, message
  assert 'only' in message or 'no numbered blocks' in message, message


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', ['prefix_embed', 'prefix_layer', 'adapter_p'])
def test_packed_equals_alone(name, family):
  """What a segment's output is does not depend on the other in its row."""
  model, _, method, frozen, trainable = adapted(name, family)
  apply = jax.jit(methods.bind(model.apply, method))
  trainable, inputs = disturbed(trainable), batch(name)
  packed = apply(frozen, trainable, **inputs)
  for row in range(2):
    own = np.flatnonzero(inputs['segment_ids'][row] == 2)
    alone = apply(
      frozen, trainable, input_ids=inputs['input_ids'][row, own][None],
      segment_ids=jnp.ones((1, len(own)), jnp.int32), 
      prediction_positions=jnp.zeros((1, 1), jnp.int32),
    )  # fmt: skip
    np.testing.assert_allclose(alone[0, 0], packed[row, 1], atol=1e-5 * np.abs(packed).max())


def test_an_embedded_prefix_of_words_is_those_words():
  model, _, method, frozen, trainable = adapted('prefix_embed', 'gpt2')
  table = tree.flatten(tree.join(frozen, trainable))['embeddings/word/embedding']
  words = jnp.array([7, 8, 9, 3, 4])
  leaves = tree.flatten(trainable) | {'embeddings/word/virtual/tokens': table[words]}
  inputs = batch('prefix_embed')
  virtual = inputs['input_ids'] - VOCABULARY
  plain = jnp.where(virtual >= 0, words[jnp.maximum(virtual, 0)], inputs['input_ids'])
  found = methods.bind(model.apply, method)(frozen, tree.unflatten(leaves), **inputs)
  expected = model.apply({'params': frozen}, **inputs | {'input_ids': plain})
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_in_any_order_a_prefix_is_around_factors_of_the_embedding():
  model, params = build('gpt2')
  lora = methods.lora(rank=2, alpha=4.0, targets='.*/word')
  parts = [lora, methods.prefix_embed(**TOKENS)]
  inputs = batch('prefix')
  _, trainable = methods.compose(*parts).init(jax.random.key(1), model, params, inputs['input_ids'])
  logits = [
    methods.bind(model.apply, methods.compose(*order))(params, disturbed(trainable), **inputs)
    for order in (parts, parts[::-1])
  ]
  assert np.isfinite(logits).all()
  np.testing.assert_array_equal(*logits)


def test_two_of_a_kind_are_refused_that_would_apply_each_other():
  model, params = build('gpt2')
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  query, value = (
    methods.lora(rank=2, alpha=4.0, targets=f'.*/{name}') for name in ('query', 'value')
  )
  adapters = methods.adapter_h(bottleneck=2), methods.adapter_p(bottleneck=3)
  for parts, leaves in ((query, value), 'lora_a.*lora_b'), (adapters, 'bias.*kernel'):
    with pytest.raises(ValueError, match=f'of one kind: both add leaves named .*{leaves}'):
      methods.compose(*parts).init(jax.random.key(1), model, params, tokens)
  methods.compose(query, adapters[0]).init(jax.random.key(1), model, params, tokens)


def test_adapters_are_where_they_should_be():
  paths = lambda name: {
    path.split('/adapter/')[0]
    for path in tree.paths(adapted(name, 'roberta')[-1])
    if 'adapter' in path
  }
  layers = [f'encoder/layers_{i}' for i in range(2)]
  both = {f'{layer}/{place}_branch' for layer in layers for place in ('attention', 'mlp')}
  assert paths('adapter_h') == both
  assert paths('adapter_l') == {*layers}
  assert paths('adapter_p') == {f'{layer}/mlp_branch' for layer in layers}
  assert paths('adapter_d') == {f'{layer}/mlp_branch' for layer in layers[1:]}


MISTAKES = {
  'bottleneck=0': ('adapter_h', dict(bottleneck=0)),
  "activation='swish'": ('adapter_h', dict(bottleneck=2, activation='swish')),
  'drop=-1': ('adapter_d', dict(bottleneck=2, drop=-1)),
  'drop=9 leaves no adapter': ('adapter_d', dict(bottleneck=2, drop=9)),
  "'mlp' matches no module": ('adapter_p', dict(bottleneck=2, targets='mlp')),
  'layers=0': ('top_layers', dict(layers=0)),
  'layers=4, but the model has 2': ('top_layers', dict(layers=4)),
  'prefix=-1': ('prefix_embed', dict(prefix=-1, infix=0)),
  'are both 0': ('prefix_layer', dict(prefix=0, infix=0)),
  'is a MLP, expected an nn.Embed': ('prefix_embed', TOKENS | dict(targets='.*layers_0/mlp')),
  'is not called with virtual=': ('prefix_layer', TOKENS | dict(targets='.*layers_0/mlp')),
}


@pytest.mark.parametrize('message', MISTAKES)
def test_mistakes_say_what_is_wrong(message):
  name, options = MISTAKES[message]
  model, params = build('gpt2')
  with pytest.raises(ValueError, match=message):
    method = methods.make(name, **options)
    method.init(jax.random.key(0), model, params, jax.ShapeDtypeStruct((1, 8), np.int32))
