"""Laws that every method keeps, over all methods, families of models and layouts of layers."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_jax import methods, tree
from lora_jax.train import checkpoints, mesh
from lora_jax.train.step import init_state
from tests.methods import toys
from tests.methods.laws import (
  FAMILIES,
  METHODS,
  SIZES,
  TOKENS,
  VARIANTS,
  adapted_model,
  batch,
  build,
  compiled,
  make,
  move,
)

# What is in the layers' numbers cannot be had of layers in one array.
NUMBERED = ('top_layers', 'adapter_d')


MERGES = ('full', 'lora', 'vera', *VARIANTS, 'bitfit', 'top_layers', 'intrinsic')


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
  model, _, method, frozen, trainable = adapted_model(name, family)
  take_step = jax.jit(functools.partial(one_step, methods.bind(model.apply, method)))
  start = move(trainable)
  inputs = {key: jnp.tile(x, (4, 1)) for key, x in batch(name).items()}
  return take_step, frozen, start, inputs, take_step(frozen, start, inputs)


def on(families, slow, names=tuple(METHODS)):
  """(name, family) of each method; some families are slow, of a variant all but the encoder."""
  rare = (*VARIANTS, 'intrinsic')
  is_slow = lambda name, family: family in slow or (name in rare and family != 'roberta')
  return [
    pytest.param(name, family, marks=[pytest.mark.slow] * is_slow(name, family))
    for name in names
    for family in families
  ]


# DeBERTa compiles for five seconds with each method.
@pytest.mark.parametrize(('name', 'family'), on(FAMILIES, slow=['deberta-v2']))
def test_a_method(name, family):
  _, params, method, frozen, trainable = adapted_model(name, family)
  apply = methods.bind(build(family)[0].apply, method)
  _, _, _, inputs, (moved, grads) = stepped(name, family)

  # The parts are disjoint, and hold the model's parameters as they were.
  leaves = tree.flatten(tree.join(frozen, trainable))
  for path, leaf in tree.flatten(params).items():
    np.testing.assert_array_equal(leaves[path], leaf)

  # At the start the adapted model is the base, but for a prefix, whose tokens the base lacks.
  adapted = jax.jit(apply)
  found = adapted(frozen, trainable, **inputs)
  assert np.isfinite(found).all()
  if 'prefix' not in name:
    base = compiled(family)({'params': params}, **inputs)
    # Adding zero is exact; the compiler orders what is around it in another way.
    np.testing.assert_allclose(found, base, atol=2e-6 * np.abs(base).max())

  # A step from disturbed parameters (a factor of zero hides the other's gradient) moves every
  # trained leaf but the keys' biases, which the softmax cancels.
  still = {path for path, g in tree.flatten(grads).items() if np.abs(g).max() < 1e-9}
  assert all(path.endswith('key/bias') or method.fixed(path) for path in still), still
  assert {path for path in tree.paths(trainable) if method.fixed(path)} <= still
  changed = adapted(frozen, moved, **inputs)
  assert np.abs(changed - found).max() > 1e-4

  # Merged, where that is possible.
  if name in MERGES:
    merged = compiled(family)({'params': method.merge(frozen, moved)}, **inputs)
    np.testing.assert_allclose(merged, changed, atol=2e-5 * np.abs(changed).max())
  else:
    with pytest.raises(ValueError, match='no weights of the base model compute it'):
      method.merge(frozen, moved)


@pytest.mark.parametrize(
  ('name', 'family'),
  on(
    ['roberta', 'gpt2', 'qwen2'],
    slow=['qwen2'],
    names=[name for name in METHODS if name not in ('full', 'bitfit')],
  ),
)
def test_scanned_layers_are_the_looped_ones(name, family):
  if name in NUMBERED:
    with pytest.raises(ValueError, match=r'scan=False'):
      adapted_model(name, family, scan=True)
    return
  model, _, method, frozen, trainable = adapted_model(name, family)
  trainable, inputs = move(trainable), batch(name)
  looped = jax.jit(methods.bind(model.apply, method))(frozen, trainable, **inputs)
  scanned, _, method, *declared = adapted_model(name, family, scan=True)
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


# Not slow on eight devices; the others compile for a minute.
EIGHT = ('full', 'lora', 'dora', 'adapter_h', 'prefix_layer')


@pytest.mark.parametrize(
  ('name', 'family'),
  [
    pytest.param(
      name, family, marks=() if (name in EIGHT and family == 'roberta') else pytest.mark.slow
    )
    for name in METHODS
    for family in FAMILIES
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
  trainable = move(adapted_model(name, family)[-1])
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


@pytest.mark.parametrize('name', [name for name in METHODS if name not in ('full', 'intrinsic')])
def test_a_model_that_a_method_cannot_take_is_told_which_and_why(name):
  model = Plain()
  params = model.init(toys.KEY, toys.X)['params']
  with pytest.raises(ValueError) as error:
    make(name).init(toys.KEY, model, params, toys.X)
  message = str(error.value)
  assert METHODS[name].get('name', name).split('+')[0] in message, message
  assert 'only' in message or 'no numbered blocks' in message, message


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
  'dimension=0': ('intrinsic', dict(dimension=0)),
  "variant='side'": ('intrinsic', dict(dimension=9, variant='side')),
  "head='tained'": ('intrinsic', dict(dimension=9, head='tained')),
  'subspace=-1': ('intrinsic', dict(dimension=9, subspace=-1)),
  'dimension=3 leaves none': ('intrinsic', dict(dimension=3, variant='said')),
  'cannot be composed': ('intrinsic+bitfit', dict(dimension=9)),
  'is not called with virtual=': ('prefix_layer', TOKENS | dict(targets='.*layers_0/mlp')),
}


@pytest.mark.parametrize('message', MISTAKES)
def test_mistakes_say_what_is_wrong(message):
  name, options = MISTAKES[message]
  model, params = build('gpt2')
  with pytest.raises(ValueError, match=message):
    method = methods.make(name, **options)
    method.init(jax.random.key(0), model, params, jax.ShapeDtypeStruct((1, 8), np.int32))


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', METHODS)
def test_every_low_precision_product_accumulates_in_float32(name, family):
  """Those of the models, of the methods, and of both backward passes."""
  model, _, method, frozen, trainable = adapted_model(name, family)
  apply = methods.bind(model.clone(dtype='bfloat16').apply, method)
  loss = lambda trainable: apply(frozen, trainable, **batch(name)).sum()
  assert toys.low_products(jax.grad(loss), trainable) == []


PROGRAMS = {
  'dora': (METHODS['dora'], dict(rank=3, rslora=True), dict(targets='.*/key')),
  'pissa': (METHODS['pissa'], dict(init='uniform', targets='.*/key'), dict(train_a=False)),
  'lora': (
    METHODS['lora'],
    dict(rank=64, alpha=1.0, targets='.*/key', init='normal'),
    dict(rank=65),
  ),
  'adapter_d': (METHODS['adapter_d'], {}, dict(drop=0)),
  'prefix_embed': (METHODS['prefix_embed'], {}, dict(infix=0)),
  'top_layers': (METHODS['top_layers'], {}, dict(layers=2)),
  'bitfit': ({}, {}, dict(train='classifier/.*')),
  'intrinsic': (METHODS['intrinsic'], dict(dimension=9, subspace=1), dict(variant='did')),
  'lora+prefix_embed': (METHODS['lora+prefix_embed'], dict(rank=1), dict(prefix=1)),
}


@pytest.mark.parametrize('name', PROGRAMS)
def test_a_program_is_of_the_options_that_it_depends_on(name):
  options, same, other = PROGRAMS[name]
  program = lambda **changes: json.dumps(methods.make(**{'name': name} | options | changes).program)
  assert program() == program(**same) != program(**other)


def test_only_full_fine_tuning_freezes_nothing():
  assert {name for name in METHODS if not make(name).freezes} == {'full'}


def test_the_factors_of_any_part_follow_their_weight():
  method = methods.make('prefix_embed+lora', **METHODS['lora+prefix_embed'])
  assert method.follows('a/query/lora_a') == ('a/query/kernel', (0, None))
  assert method.follows('a/query/lora_b') == ('a/query/kernel', (None, 1))
  assert method.follows('a/query/kernel') is None
