"""The laws of tests/methods/test_laws.py over layouts of NNX models: the same table of methods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_jax import bind, lora, methods, params, tree
from tests.methods.laws import INFIX, METHODS, PREFIX
from tests.methods.test_laws import NUMBERED, stacked
from tests.nnx.toys import KEY, VOCABULARY, Stack, disturbed

# Each compiles a program of its own: by default one method of each kind runs in the layout that is
# the hardest for it.
QUICK = {
  'loop': ('adapter_h', 'bitfit'),
  'scan+remat': ('lora', 'dora', 'prefix_layer'),
  'scan': (),
  'remat': (),
}
WHOLE = ('full', 'intrinsic')  # They train every leaf themselves.


def make(name):
  train = {} if name in WHOLE else dict(train='classifier/.*')
  return methods.make(**{'name': name} | METHODS[name] | train)


def batch(name):
  ids = np.random.default_rng(0).integers(0, VOCABULARY, (2, 6))
  if 'prefix' in name:
    new = np.tile(VOCABULARY + np.arange(PREFIX + INFIX), (2, 1))
    ids = np.concatenate([new[:, :PREFIX], ids, new[:, PREFIX:]], axis=1)
  return jnp.asarray(ids, jnp.int32)


@functools.cache
def computed(name, layout):
  """What all laws look at, by one program: the outputs by name, and the gradient."""
  model, method = Stack(layout), make(name)
  frozen, trainable = method.init(KEY, model, jax.ShapeDtypeStruct((1, 6), np.int32))
  apply, base = bind(model, method), bind(model, methods.full())
  ids = batch(name)

  @jax.jit
  def run(trainable, moved):
    outputs = {'start': apply(frozen, trainable, ids), 'moved': apply(frozen, moved, ids)}
    if 'prefix' not in name:
      outputs['base'] = base({}, params(model), ids)
    try:
      outputs['merged'] = base({}, method.merge(frozen, moved), ids)
    except ValueError as error:
      assert 'no weights of the base model compute it' in str(error)
    grads = jax.grad(lambda moved: (apply(frozen, moved, ids) ** 2).sum())(moved)
    return outputs, grads

  return method, frozen, trainable, *run(trainable, disturbed(trainable))


def case(*values, quick):
  return pytest.param(*values, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(
  ('layout', 'name'),
  [case(layout, name, quick=name in QUICK[layout]) for layout in QUICK for name in METHODS],
)
def test_a_method(layout, name):
  if 'scan' in layout and name in NUMBERED:
    with pytest.raises(ValueError, match=f'{name}.*scan=False'):
      computed(name, layout)
    return
  method, frozen, trainable, outputs, grads = computed(name, layout)
  leaves = tree.flatten(tree.join(frozen, trainable))
  for path, leaf in tree.flatten(params(Stack(layout))).items():
    np.testing.assert_array_equal(leaves[path], leaf)
  if 'base' in outputs:
    np.testing.assert_allclose(outputs['start'], outputs['base'], atol=1e-6)
  assert np.abs(outputs['moved'] - outputs['start']).max() > 1e-3
  if 'merged' in outputs:
    scale = np.abs(outputs['moved']).max()
    np.testing.assert_allclose(outputs['merged'], outputs['moved'], atol=2e-6 * scale)
  still = {path for path, g in tree.flatten(grads).items() if not np.abs(g).max()}
  assert all(map(method.fixed, still)), still


@pytest.mark.parametrize(
  'name',
  [case(name, quick=name == 'lora') for name in METHODS if name not in (*WHOLE, *NUMBERED)],
)
def test_scanned_layers_are_the_looped_ones(name):
  _, frozen, trainable, *_ = computed(name, 'loop')
  method, *declared, _, _ = computed(name, 'scan+remat')
  parts = [stacked({'a': part})['a'] for part in (frozen, disturbed(trainable))]
  for part, expected in zip(parts, declared):
    assert jax.tree.map(jnp.shape, part) == jax.tree.map(jnp.shape, expected)
  ids = batch(name)
  looped = bind(Stack('loop'), make(name))(frozen, disturbed(trainable), ids)
  scanned = jax.jit(bind(Stack('scan+remat'), method))(*parts, ids)
  np.testing.assert_allclose(scanned, looped, atol=1e-5 * np.abs(looped).max())


class Plain(nnx.Module):
  """A model with no place that a method knows: no bias, no block, no embedding."""

  def __init__(self):
    self.only = nnx.Linear(4, 3, use_bias=False, rngs=nnx.Rngs(0))

  def __call__(self, x):
    return self.only(x)


@pytest.mark.parametrize('name', [name for name in METHODS if name not in WHOLE])
def test_a_model_that_a_method_cannot_take_is_told_which_and_why(name):
  method = methods.make(**{'name': name} | METHODS[name])
  with pytest.raises(ValueError) as error:
    method.init(KEY, Plain(), jnp.ones((2, 4)))
  message = str(error.value)
  known = METHODS[name].get('name', name).split('+')[0]
  assert known in message, message
  assert 'only' in message or 'no numbered blocks' in message, message


def test_paths_are_those_of_linen_models():
  method = lora(rank=1, alpha=1, targets='layers_0/query')
  _, trainable = method.init(KEY, Stack('loop'), batch('lora'))
  assert tree.paths(trainable) == ['layers_0/query/lora_a', 'layers_0/query/lora_b']
