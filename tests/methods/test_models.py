"""What methods take for a model, and that flax.nnx is loaded for an nnx.Module alone."""

import subprocess
import sys

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_jax import bind, lora, params
from lora_jax.methods import models
from tests.nnx.toys import KEY, One

X = jnp.ones((2, 6))


def test_flax_nnx_is_loaded_with_the_first_nnx_module():
  code = """
import sys, jax.numpy as jnp, flax.linen as nn, lora_jax
model, method, x = nn.Dense(2), lora_jax.lora(rank=1, alpha=1, targets=''), jnp.ones((1, 3))
parts = method.init(jax.random.key(0), model, model.init(jax.random.key(0), x)['params'], x)
lora_jax.bind(model, method)(*parts, x)
assert 'flax.nnx' not in sys.modules
lora_jax.adapt
assert 'flax.nnx' in sys.modules and lora_jax.nnx.adapt is lora_jax.adapt
"""
  subprocess.run([sys.executable, '-c', f'import jax{code}'], check=True)


def test_a_model_is_told_from_a_function():
  linen, module = nn.Dense(3), One(nnx.Linear(6, 3, rngs=nnx.Rngs(0)))
  assert models.is_nnx(module) and not models.is_nnx(linen) and not models.is_nnx(len)
  assert models.as_linen(linen) is linen and models.apply_of(linen) == linen.apply
  assert models.apply_of(len) is len
  assert isinstance(models.as_linen(module), models.Model)


def test_bind_takes_a_linen_model_as_its_apply():
  model, method = nn.Sequential([nn.Dense(3)]), lora(rank=1, alpha=1, targets='layers_0')
  values = model.init(KEY, X)['params']
  parts = method.init(KEY, model, values, X)
  np.testing.assert_array_equal(bind(model, method)(*parts, X), model.apply({'params': values}, X))


class Bare(nnx.Module):
  def __init__(self):
    self.query = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
    self.head = nnx.Linear(3, 3, rngs=nnx.Rngs(0))

  def __call__(self, x):
    return self.head(x @ self.query.kernel[...])


class Doubled(nnx.Linear):
  def __call__(self, x):
    return 2 * super().__call__(x)


@pytest.mark.parametrize(
  ('model', 'message'),
  [
    (Bare(), "'query' matches no module that lora can adapt"),
    (One(Doubled(6, 3, rngs=nnx.Rngs(0))), "'query' matches 'query', which is a Doubled"),
    (
      nnx.bridge.ToNNX(nn.Dense(3), nnx.Rngs(0)).lazy_init(X),
      "'query' matches no module",
    ),
  ],
  ids=['bare', 'own call', 'of Linen'],
)
def test_a_layer_that_cannot_be_adapted_is_named_with_a_hint(model, message):
  method = lora(rank=1, alpha=1, targets='query')
  with pytest.raises(ValueError, match=f'(?s){message}.*bare.*lora_jax.nnx.register.*to_nnx'):
    method.init(KEY, model, X)


def test_parameters_given_as_of_a_linen_model_are_refused():
  model, method = One(nnx.Linear(6, 3, rngs=nnx.Rngs(0))), lora(rank=1, alpha=1, targets='query')
  with pytest.raises(ValueError, match=r'holds its parameters: method.init\(key, model, \*inputs'):
    method.init(KEY, model, params(model), X)


def test_other_errors_have_no_hint():
  method = lora(rank={'head': 1}, alpha=1, targets='query')
  with pytest.raises(ValueError, match='rank has no pattern') as error:
    method.init(KEY, One(nnx.Linear(6, 3, rngs=nnx.Rngs(0))), X)
  assert models.HINT not in str(error.value)


def test_a_parameter_whose_name_no_path_can_hold_is_refused():
  class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(3, name='head')(nn.WeightNorm(nn.Dense(6, name='d'))(x))

  model = Normalized()
  values = model.init(KEY, X)['params']
  with pytest.raises(ValueError, match=r"named 'd/kernel/scale', .* nn.WeightNorm names"):
    lora(rank=1, alpha=1, targets='head').init(KEY, model, values, X)
