"""Modules that a method touches: their calls, their names, and programs that are kept of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_jax import bind, lora, params, update
from lora_jax.methods import hooks, twins
from lora_jax.nnx import register
from tests.nnx.toys import IDS, KEY, One, X, disturbed

METHOD = lora(rank=2, alpha=3.0, targets='query')


def linear():
  return nnx.Linear(6, 3, rngs=nnx.Rngs(0))


def adapted(model, method=METHOD):
  """(apply, frozen, trainable) with an update that is not zero."""
  frozen, trainable = method.init(KEY, model, X)
  return bind(model, method), frozen, disturbed(trainable)


class InnerJit(nnx.Module):
  """A model that compiles a part of itself."""

  def __init__(self):
    self.query = linear()

  def __call__(self, x):
    return nnx.jit(lambda layer, x: layer(x))(self.query, x)


@pytest.mark.parametrize('outer', [lambda f: f, jax.jit, nnx.jit], ids=['eager', 'jax', 'nnx'])
def test_a_model_that_compiles_itself_runs_each_method_with_its_own_numbers(outer):
  model, found = InnerJit(), []
  plain = model(X)
  for alpha in (2.0, 200.0):
    apply, *parts = adapted(model, method=lora(rank=2, alpha=alpha, targets='query'))
    found.append(outer(apply)(*parts, X) - plain)
  np.testing.assert_allclose(100 * found[0], found[1], rtol=1e-3)
  assert np.abs(found[0]).max() > 0.01


class Calls(nnx.Module):
  """Calls of one layer in all the ways in which its arguments can be given."""

  def __init__(self, how):
    self.query, self.how = linear(), how

  def __call__(self, x):
    return self.how(self.query, x)


@pytest.mark.parametrize(
  'how',
  [
    lambda f, x: f(x, None),
    lambda f, x: f(x, out_sharding=None),
    lambda f, x: f(inputs=x),
    lambda f, x: f(out_sharding=None, inputs=x),
  ],
)
def test_arguments_of_a_layer_by_position_or_by_name(how):
  apply, *parts = adapted(One(linear()))
  np.testing.assert_array_equal(bind(Calls(how), METHOD)(*parts, X), apply(*parts, X))


class Table(nnx.Module):
  """An embedding of one's own: looked up by `encode`, attended to by `decode`."""

  def __init__(self):
    self.input_embedding = nnx.Param(jax.random.normal(KEY, (11, 6)))

  def encode(self, ids):
    return self.input_embedding[(ids,)]

  def decode(self, x):
    return x @ self.input_embedding[...].T


class TiedTable(nnx.Module):
  def __init__(self):
    self.query = Table()

  def __call__(self, ids):
    return self.query.decode(jnp.tanh(self.query.encode(ids)))


def test_methods_of_other_names_are_registered(monkeypatch):
  monkeypatch.setattr(twins, 'KINDS', dict(twins.KINDS))
  model = TiedTable()
  with pytest.raises(ValueError, match=r"'query' matches no module"):
    METHOD.init(KEY, model, IDS)
  calls = {'encode': '__call__', 'decode': 'attend'}
  register(Table, lambda table: nn.Embed(11, 6), {'input_embedding': 'embedding'}, calls)
  frozen, trainable = METHOD.init(KEY, model, IDS)
  trainable = disturbed(trainable)
  found = bind(model, METHOD)(frozen, trainable, IDS)
  assert np.abs(found - model(IDS)).max() > 0.1
  update(model, METHOD.merge(frozen, trainable))
  np.testing.assert_allclose(model(IDS), found, rtol=1e-4, atol=1e-4)


def test_a_touched_module_is_of_its_own_class_and_keeps_its_names():
  layer = linear()
  hooks.touch(layer, 'query', {'lora_a': X[0]}, (), None)
  assert isinstance(layer, nnx.Linear) and type(layer).__name__ == 'Linear'
  assert hooks.hook_of(layer).path == ('query',) and hooks.hook_of(linear()).path == ()
  assert set(hooks.params_of(layer)) == {'kernel', 'bias'}
  np.testing.assert_array_equal(layer(X), linear()(X))
  assert set(params(layer)) == {'kernel', 'bias', 'lora_a'}
