"""Which modules LoRA finds, and what the errors about the others say."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_jax import bind, join, lora, tree, vera
from tests.methods.toys import KEY, METHOD, Stack, X, adapted, disturbed, one


# Errors: each says which pattern, path or option, and what there is instead.
@pytest.mark.parametrize(
  'options, words',
  [
    ({'targets': ('.*/query', '.*/qurey')}, ["'.*/qurey' matches no", 'layers_[0-9]+/query']),
    ({'targets': 'layers_0'}, ["'layers_0' matches", 'is a Block; lora', 'Dense, DenseGeneral']),
    ({'targets': '.*/(query'}, ["'.*/(query' is not a regular expression"]),
    ({'train': 'clasifier/.*'}, ["'clasifier/.*' matches no parameter", 'classifier/kernel']),
    ({'rank': {'.*/value': 2}}, ['rank has no pattern', 'layers_0/query']),
    ({'rank': {'.*/query': 2, '.*': 1, 'key': 3}}, ["'key' matches no", 'in rank']),
  ],
)
def test_errors_of_init(options, words):
  method = lora(**{'rank': 2, 'alpha': 1.0, **options})
  with pytest.raises(ValueError) as error:
    adapted('loop', method)
  assert all(word in str(error.value) for word in words), error.value


def test_errors_of_params():
  model, params, frozen, trainable, x = adapted('loop')
  with pytest.raises(ValueError, match=r'variables\["params"\]'):
    METHOD.init(KEY, model, {'params': params}, x)
  with pytest.raises(ValueError, match='layers_0/query: has factors already'):
    METHOD.init(KEY, model, join(frozen, trainable), x)
  wide = Stack('loop').init(KEY, jnp.ones((1, 9)))['params']
  with pytest.raises(ValueError, match=r'layers_0/query/kernel: \(9, 6\), expected \(6, 6\)'):
    METHOD.init(KEY, model, wide, x)


def test_a_masked_convolution_is_refused():
  model = one(nn.Conv, 2, (3,), mask=jnp.ones((3, 6, 2)))
  params = model.init(KEY, X)['params']
  with pytest.raises(ValueError, match='Conv with a mask'):
    METHOD.init(KEY, model, params, X)


def test_rank_and_alpha_by_pattern():
  method = lora(rank={'.*_0/query': 4, '.*': 1}, alpha={'.*/query': 8.0, '.*/value': 2.0})
  model, _, frozen, trainable, x = adapted('loop', method)
  ranks = {
    path: leaf.shape[-1] for path, leaf in tree.flatten(trainable).items() if 'lora_a' in path
  }
  assert ranks.pop('layers_0/query/lora_a') == 4
  assert set(ranks.values()) == {1}
  trainable = disturbed(trainable)
  unmerged = bind(model.apply, method)(frozen, trainable, x)
  merged = method.merge(frozen, trainable)
  np.testing.assert_allclose(model.apply({'params': merged}, x), unmerged, atol=1e-5, rtol=1e-5)
  query, base = merged['layers_0']['query']['kernel'], frozen['layers_0']['query']['kernel']
  factors = trainable['layers_0']['query']
  np.testing.assert_allclose(
    query - base, 8.0 / 4 * factors['lora_a'] @ factors['lora_b'], atol=1e-6
  )


class Own(nn.Dense):
  """A subclass with a call of its own."""

  def __call__(self, inputs):
    return nn.gelu(super().__call__(inputs))


class Through(nn.Dense):
  """One whose `super` would be adapted a second time."""

  def __call__(self, inputs):
    return super().__call__(inputs)


class Casts(nn.Dense):
  """One that computes what its base does, and says so."""

  computes_as_its_base = True

  @nn.compact
  def __call__(self, inputs):
    return inputs @ self.param('kernel', self.kernel_init, (inputs.shape[-1], self.features))


class Named(nn.Dense):
  """One that changes nothing."""


@pytest.mark.parametrize('kind', [Own, Through, nn.jit(Own)])
def test_a_subclass_with_a_call_of_its_own_is_refused(kind):
  model = one(kind, 3)
  params = model.init(KEY, X)['params']
  for method in (METHOD, vera(rank=2, targets=METHOD.options['targets'])):
    with pytest.raises(ValueError, match=r'its own, .*_base = True`; .* adapts modules of'):
      method.init(KEY, model, params, X)


@pytest.mark.parametrize('kind', [Casts, Named, nn.remat(nn.Dense)])
def test_a_subclass_that_computes_as_its_base_is_adapted(kind):
  model = one(kind, 3)
  params = model.init(KEY, X)['params']
  frozen, trainable = METHOD.init(KEY, model, params, X)
  trainable = disturbed(trainable)
  found = bind(model, METHOD)(frozen, trainable, X)
  np.testing.assert_allclose(
    found, model.apply({'params': METHOD.merge(frozen, trainable)}, X), rtol=1e-5, atol=1e-5
  )
  assert np.abs(found - model.apply({'params': params}, X)).max() > 1e-3


def test_layers_that_are_stacked_on_another_axis_are_refused_at_once():
  layers = nn.scan(
    Layer, variable_axes={'params': 1}, split_rngs={'params': True}, length=3, in_axes=nn.broadcast
  )
  model, x = layers(), jnp.ones((2, 6))
  params = model.init(KEY, x, None)['params']
  method = lora(rank=2, alpha=1.0, targets='dense')
  with pytest.raises(ValueError, match=r'dense/kernel: factors .* must be stacked on axis 0'):
    method.init(KEY, model, params, x, None)


class Layer(nn.Module):
  """A dense layer that `nn.scan` repeats."""

  @nn.compact
  def __call__(self, x, _):
    return nn.Dense(6, name='dense')(x), None


def test_nnx_modules_that_hold_one_parameter_together_are_refused():
  class Tied(nnx.Module):
    def __init__(self, rngs):
      self.a, self.b = nnx.Linear(6, 6, rngs=rngs), nnx.Linear(6, 6, rngs=rngs)
      self.b.kernel = self.a.kernel

    def __call__(self, x):
      return self.b(self.a(x))

  for targets in ('a', 'b', '.*'):
    with pytest.raises(ValueError, match='a and b hold one parameter together'):
      lora(rank=2, alpha=1.0, targets=targets).init(KEY, Tied(nnx.Rngs(0)), jnp.ones((2, 6)))
