"""A method in an nnx.Module that is trained as NNX trains, layers of one's own, Linen models."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import lora_jax
from lora_jax import adapt, bind, lora, params, reseed, tree, update
from lora_jax.methods import intrinsic, twins, vera
from tests.methods.laws import adapted_model, batch, move
from tests.nnx.toys import KEY, One, Stack, X, disturbed

METHOD = lora(rank=2, alpha=3.0, targets='.*query', train='classifier/.*')
IDS = jnp.arange(12).reshape(2, 6)


def parts(layout='loop', method=METHOD):
  model = Stack(layout)
  frozen, trainable = method.init(KEY, model, IDS)
  return model, frozen, disturbed(trainable)


def close(a, b, tolerance=1e-6):
  np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_a_merged_tree_is_written_into_the_users_module():
  model, frozen, trainable = parts()
  merged = METHOD.merge(frozen, trainable)
  update(model, merged)
  jax.tree.map(np.testing.assert_array_equal, params(model), merged)
  expected = jax.jit(bind(Stack(), METHOD))(frozen, trainable, IDS)
  close(nnx.jit(lambda model: model(IDS))(model), expected, 1e-5)
  with pytest.raises(ValueError, match=r'params are not those of this Stack: unexpected .*lora_a'):
    update(model, tree.join(frozen, trainable))


@pytest.mark.parametrize('layout', ['loop', 'scan+remat'])
def test_nnx_trains_an_adapted_module_as_optax_trains_the_tree(layout):
  model, frozen, trainable = parts(layout)
  adapted, trained = adapt(model, METHOD, frozen, trainable)
  apply, tx = bind(model, METHOD), optax.adam(1e-2)
  expected = jax.jit(apply)(frozen, trainable, IDS)
  np.testing.assert_array_equal(nnx.jit(lambda adapted: adapted(IDS))(adapted), expected)
  jax.tree.map(np.testing.assert_array_equal, params(adapted, trained), trainable)
  optimizer, state = nnx.Optimizer(adapted, tx, wrt=trained), tx.init(trainable)
  before = params(model)

  @nnx.jit
  def step(adapted, optimizer):
    loss = lambda adapted: (adapted(IDS) ** 2).mean()
    optimizer.update(adapted, nnx.grad(loss, argnums=nnx.DiffState(0, trained))(adapted))

  @jax.jit
  def other(trainable, state):
    grads = jax.grad(lambda trainable: (apply(frozen, trainable, IDS) ** 2).mean())(trainable)
    updates, state = tx.update(grads, state)
    return optax.apply_updates(trainable, updates), state

  for _ in range(2):
    step(adapted, optimizer)
    trainable, state = other(trainable, state)
  found = params(adapted, trained)
  jax.tree.map(close, found, trainable)
  everything = tree.flatten(params(adapted))
  for path, leaf in tree.flatten(frozen).items():
    np.testing.assert_array_equal(everything[path], leaf)
  jax.tree.map(np.testing.assert_array_equal, params(model), before)
  assert np.abs(METHOD.merge(frozen, found)['classifier']['bias']).max() > 0


@pytest.mark.parametrize('layout', ['loop', 'scan+remat'])
def test_dropout_of_an_adapted_module_is_reseeded_in_each_step(layout):
  method = lora(rank=2, alpha=3.0, targets='.*query', dropout=0.5)
  model, frozen, trainable = parts(layout, method)
  adapted, _ = adapt(model, method, frozen, trainable, rngs={'dropout': KEY})
  assert 'lora_jax_key' not in str(tree.paths(params(adapted)))

  @nnx.jit
  def call(adapted, seed):
    reseed(adapted, {'dropout': jax.random.key(seed)})
    return adapted(IDS)

  one, other = call(adapted, 1), call(adapted, 2)
  assert np.abs(one - other).max() > 1e-3
  apply, key = jax.jit(bind(model, method)), jax.random.key(2)
  expected = apply(frozen, trainable, IDS, rngs={'dropout': key})
  close(other, expected, 1e-5)
  clean = apply(frozen, trainable, IDS)
  adapted.eval()
  np.testing.assert_array_equal(nnx.jit(lambda adapted: adapted(IDS))(adapted), clean)


class Einsum(nnx.Module):
  """A layer of one's own, as tunix' Gemma has it: its weight is `w`."""

  def __init__(self, equation, shape):
    self.equation, self.shape = equation, shape
    self.w = nnx.Param(jax.random.normal(KEY, shape))

  def __call__(self, x):
    return jnp.einsum(self.equation, x, self.w[...])


@pytest.fixture
def registered(monkeypatch):
  monkeypatch.setattr(twins, 'KINDS', dict(twins.KINDS))
  twin = lambda layer: nn.Einsum(layer.shape, layer.equation, use_bias=False)
  lora_jax.nnx.register(Einsum, twin, {'w': 'kernel'})


@pytest.mark.parametrize(
  ('equation', 'shape'), [('btd,ndh->btnh', (2, 6, 4)), ('bsd,ckdh->cbskh', (2, 3, 6, 4))]
)
def test_a_layer_of_ones_own_is_adapted_by_two_registered_facts(registered, equation, shape):
  model = One(Einsum(equation, shape))
  method = lora(rank=2, alpha=3.0, targets='query')
  frozen, trainable = method.init(KEY, model, X)
  assert tree.paths(frozen) == ['query/kernel']
  trainable = disturbed(trainable)
  found = bind(model, method)(frozen, trainable, X)
  assert np.abs(found - model(X)).max() > 0.1
  adapted, trained = adapt(model, method, frozen, trainable)
  np.testing.assert_array_equal(adapted(X), found)
  jax.tree.map(np.testing.assert_array_equal, params(adapted, trained), trainable)
  update(model, method.merge(frozen, trainable))
  close(model(X), found, 1e-5)


def test_what_is_no_class_of_modules_cannot_be_registered():
  with pytest.raises(ValueError, match=r'expected a class of nnx\.Module, but this is 3'):
    lora_jax.nnx.register(3, lambda layer: nn.Dense(1))


@pytest.mark.parametrize('name', ['lora', 'adapter_h'])
def test_a_model_of_this_package_becomes_an_nnx_module_with_its_method(name):
  model, values, method, frozen, trainable = adapted_model(name, 'gpt2')
  trainable = jax.tree.map(jnp.asarray, move(trainable))
  inputs = batch(name)
  adapted, trained = adapt(model, method, frozen, trainable)
  jax.tree.map(np.testing.assert_array_equal, params(adapted, trained), trainable)
  graphdef, state = nnx.split(adapted)

  @jax.jit
  def run(state, frozen, trainable, values):
    expected = bind(model, method)(frozen, trainable, **inputs)
    return nnx.merge(graphdef, state)(**inputs), expected, model.apply({'params': values}, **inputs)

  found, expected, base = run(state, frozen, trainable, values)
  np.testing.assert_array_equal(found, expected)
  assert np.abs(expected - base).max() > 1e-3


class LinenDropped(nn.Module):
  @nn.compact
  def __call__(self, x, deterministic=False):
    return nn.Dense(3, name='query')(x)


def test_dropout_of_a_linen_model_draws_from_the_streams_of_its_module():
  model, method = LinenDropped(), lora(rank=2, alpha=3.0, targets='query', dropout=0.5)
  frozen, trainable = method.init(KEY, model, model.init(KEY, X)['params'], X)
  trainable = disturbed(trainable)
  clean = bind(model, method)(frozen, trainable, X)
  without, _ = adapt(model, method, frozen, trainable)
  np.testing.assert_array_equal(without(X), clean)
  adapted, _ = adapt(model, method, frozen, trainable, rngs={'dropout': KEY})
  one = adapted(X)
  assert np.abs(one - clean).max() > 1e-3 and np.abs(one - adapted(X)).max() > 1e-3
  np.testing.assert_array_equal(adapted(X, deterministic=True), clean)
  reseed(adapted, {'dropout': KEY})
  np.testing.assert_array_equal(adapted(X), one)


def test_nnx_trains_a_linen_model():
  linen, method = nn.Sequential([nn.Dense(4), nn.Dense(2)]), lora(rank=1, alpha=1, targets='.*_1')
  values = linen.init(KEY, X)['params']
  frozen, trainable = method.init(KEY, linen, values, X)
  adapted, trained = adapt(linen, method, frozen, disturbed(trainable))
  loss = lambda adapted: (adapted(X) ** 2).sum()
  grads = nnx.grad(loss, argnums=nnx.DiffState(0, trained))(adapted)
  optimizer = nnx.Optimizer(adapted, optax.sgd(1e-2), wrt=trained)
  first = loss(adapted)
  optimizer.update(adapted, grads)
  assert loss(adapted) < first
  jax.tree.map(np.testing.assert_array_equal, params(adapted)['layers_0'], values['layers_0'])


@pytest.mark.parametrize('linen', [False, True])
def test_a_method_that_runs_on_merged_parameters_lies_in_no_module(linen):
  method = intrinsic(dimension=3)
  model = nn.Dense(4) if linen else One(nnx.Linear(6, 3, rngs=nnx.Rngs(0)))
  values = [model.init(KEY, X)['params']] if linen else []
  frozen, trainable = method.init(KEY, model, *values, X)
  assert bind(model, method)(frozen, trainable, X).shape[:2] == X.shape[:2]
  with pytest.raises(ValueError, match=r'intrinsic computes .*bind\(model, method\)'):
    adapt(model, method, frozen, trainable)


def test_vera_lies_in_a_module_with_its_shared_factors():
  model, method = Stack('scan+remat'), vera(rank=3, targets='.*query', dropout=0.5)
  frozen, trainable = method.init(KEY, model, IDS)
  trainable = disturbed(trainable)
  adapted, _ = adapt(model, method, frozen, trainable)
  call = nnx.jit(lambda adapted: adapted(IDS))
  clean = jax.jit(bind(model, method))(frozen, trainable, IDS)
  np.testing.assert_array_equal(call(adapted), clean)
  reseed(adapted, {'dropout': KEY})
  assert np.abs(call(adapted) - clean).max() > 1e-3


def test_an_unknown_name_is_an_error():
  with pytest.raises(AttributeError, match="'lora_jax' has no attribute 'adpat'"):
    _ = lora_jax.adpat
