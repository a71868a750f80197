"""Interceptors reach every method of a model, those too that Flax compiles by themselves."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from lora_jax import bind, lora
from tests.methods.toys import KEY, disturbed


class OwnJit(nn.Module):
  @nn.jit
  @nn.compact
  def __call__(self, x):
    return nn.Dense(4, name='query')(x)


class JittedLayer(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.jit(nn.Dense)(4, name='query')(x)


class ScannedJit(nn.Module):
  @nn.compact
  def __call__(self, x):
    layers = nn.scan(Carried, variable_axes={'params': 0}, split_rngs={'params': True}, length=2)
    return layers(name='layers')(x)[0]


class Carried(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.jit(nn.Dense)(x.shape[-1], name='query')(x), None


@pytest.mark.parametrize('model', [OwnJit(), JittedLayer(), ScannedJit()], ids=str)
def test_a_model_that_jits_its_own_methods_runs_each_method_with_its_own_numbers(model):
  x = jax.random.normal(KEY, (2, 3))
  params = model.init(KEY, x)['params']  # Traced and kept, before any method exists.
  plain = model.apply({'params': params}, x)
  found = []
  for alpha in (2.0, 200.0):
    method = lora(rank=2, alpha=alpha, targets='.*query')
    frozen, trainable = method.init(KEY, model, params, x)
    trainable = disturbed(trainable)
    found.append(bind(model.apply, method)(frozen, trainable, x))
    merged = model.apply({'params': method.merge(frozen, trainable)}, x)
    np.testing.assert_allclose(found[-1], merged, rtol=1e-4, atol=1e-5)
  assert np.abs(found[0] - plain).max() > 0.01
  assert np.abs(found[1] - found[0]).max() > 1
  np.testing.assert_array_equal(model.apply({'params': params}, x), plain)
