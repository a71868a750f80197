"""An nnx.Module as methods know it: its state, its streams, its transformations, its meshes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lora_jax import adapt, bind, lora, params, prefix_embed, quantization, tree, vera
from lora_jax.methods import functional, hooks
from lora_jax.methods.functional import Functional
from tests.nnx.toys import IMAGE, KEY, One, Stack, X, disturbed

METHOD = lora(rank=2, alpha=3.0, targets='query')


def linear(**options):
  return nnx.Linear(6, 3, rngs=nnx.Rngs(0), **options)


def adapted(model, x=X, method=METHOD):
  """(apply, frozen, trainable) with an update that is not zero."""
  frozen, trainable = method.init(KEY, model, x)
  return bind(model, method), frozen, disturbed(trainable)


class Normed(nnx.Module):
  def __init__(self):
    self.query = nnx.Conv(4, 3, (3, 3), rngs=nnx.Rngs(0))
    self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))

  def __call__(self, x):
    return self.norm(self.query(x))


def test_variables_that_are_no_parameters_are_the_state():
  model = Normed()
  apply, *parts = adapted(model, IMAGE)
  y, state = apply(*parts, IMAGE, mutable=True)
  again, state = apply(*parts, IMAGE, collections=state, mutable=True)
  np.testing.assert_array_equal(y, again)  # Training normalizes by the batch.
  mean = lambda state: state['state']['norm']['mean'].get_value()
  first = mean(apply(*parts, IMAGE, mutable=True)[1])
  np.testing.assert_allclose(mean(state), (1 - 0.99**2) / 0.01 * first, rtol=1e-4)
  assert not np.any(model.norm.mean[...])  # The user's module is only read.
  model.eval()
  evaluated = bind(model, METHOD)(*parts, IMAGE, collections=state)
  assert np.abs(evaluated - y).max() > 0.1


@pytest.mark.parametrize('method', [METHOD, vera(rank=2, targets='query')])
def test_factors_of_no_module_are_named(method):
  """LoRA's in the frozen part, where no method looks for its own, and VeRA's vectors."""
  model = One(linear())
  frozen, trainable = method.init(KEY, model, X)
  moved = dict(trainable)
  moved['queries'] = moved.pop('query')
  parts = (tree.join(frozen, moved), trainable) if method is METHOD else (frozen, moved)
  with pytest.raises(
    ValueError, match=r'queries/\w+_\w, queries/\w+: this One has no such modules. Pass'
  ):
    bind(model, method)(*parts, X)


class Dropped(nnx.Module):
  def __init__(self, rate=0.5):
    self.query, self.drop = linear(), nnx.Dropout(rate, rngs=nnx.Rngs(7))

  def __call__(self, x, deterministic=False):
    return self.drop(self.query(x), deterministic=deterministic)


def test_a_stream_without_a_key_is_an_error_and_not_one_mask_forever():
  apply, *parts = adapted(Dropped())
  with pytest.raises(ValueError, match=r"stream 'default'.*Pass rngs=.*model.eval\(\)"):
    apply(*parts, X)
  rngs = lambda seed: {'dropout': jax.random.key(seed)}
  one, other = (apply(*parts, X, rngs=rngs(seed)) for seed in (1, 2))
  np.testing.assert_array_equal(one, apply(*parts, X, rngs=rngs(1)))
  assert np.any((one == 0) != (other == 0))
  clean = apply(*parts, X, deterministic=True)
  np.testing.assert_array_equal(clean, apply(*parts, X, True, rngs=rngs(1)))


def test_a_state_of_the_callers_carries_the_streams():
  apply, *parts = adapted(Dropped())
  state = {'state': Functional(Dropped()).state}
  one, state = apply(*parts, X, collections=state, mutable=True)
  other, _ = apply(*parts, X, collections=state, mutable=True)
  assert np.any((one == 0) != (other == 0))


@pytest.mark.parametrize('layout', ['loop', 'scan+remat'])
def test_dropout_of_the_method_differs_between_layers_and_keys(layout):
  method = lora(rank=2, alpha=3.0, targets='layers(_.)?/query', dropout=0.5)
  ids = jnp.arange(6).reshape(1, 6)
  apply, *parts = adapted(Stack(layout), ids, method)
  run = jax.jit(lambda seed: apply(*parts, ids, rngs={'dropout': jax.random.key(seed)}))
  one, other = run(1), run(2)
  assert np.abs(one - other).max() > 1e-3
  np.testing.assert_array_equal(one, run(1))
  assert np.abs(one - jax.jit(apply)(*parts, ids)).max() > 1e-3  # Without a key there is none.


def test_each_stacked_layer_gets_a_key_of_its_own():
  model = Stack('scan', depth=3)
  method = lora(rank=2, alpha=3.0, targets='layers/query', dropout=0.5)
  frozen, trainable = method.init(KEY, model, jnp.zeros((1, 2), int))
  with functional.interception.intercepted(method.interceptor):
    module = Functional(model).bound(tree.join(frozen, trainable))
  functional.reseed(module, {'dropout': KEY})
  keys = getattr(module.layers.query, hooks.KEY)[...]
  assert keys.shape[0] == 3 and len({tuple(key) for key in np.array(keys).tolist()}) == 3


def test_adapters_are_mapped_over_one_base():
  model = One(linear())
  apply, frozen, one = adapted(model)
  many = jax.tree.map(lambda x: jnp.stack([x, 2 * x, 0 * x]), one)
  found = jax.vmap(apply, (None, 0, None))(frozen, many, X)
  np.testing.assert_allclose(found[0], apply(frozen, one, X), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found[1] - found[2], 4 * (found[0] - found[2]), rtol=1e-4, atol=1e-5)


def test_an_abstract_model_is_adapted_and_nothing_computed():
  model = nnx.eval_shape(lambda: Stack('scan+remat'))
  shape = jax.ShapeDtypeStruct((1, 6), jnp.int32)
  frozen, trainable = lora(rank=2, alpha=3.0, targets='layers/query').init(KEY, model, shape)
  assert trainable['layers']['query']['lora_a'].shape == (2, 8, 2)
  assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(frozen))


class WithRngs(nnx.Module):
  """A model that takes its random numbers in the call, and has a second entry point."""

  def __init__(self):
    self.query, self.drop = linear(), nnx.Dropout(0.5)

  def __call__(self, x, rngs=None):
    return self.drop(self.query(x), rngs=rngs, deterministic=rngs is None)

  def encode(self, x):
    return jnp.tanh(self.query(x))


def test_random_numbers_in_the_call_and_other_entry_points():
  apply, *parts = adapted(WithRngs())
  clean = apply(*parts, X)
  np.testing.assert_array_equal(apply(*parts, X, method='encode'), jnp.tanh(clean))
  noisy = apply(*parts, X, rngs={'dropout': KEY})
  assert np.mean(np.array(noisy) == 0) > 0.1
  np.testing.assert_allclose(noisy[noisy != 0], 2 * clean[noisy != 0], rtol=1e-6)


class Hybrid(nnx.Module):
  """A Linen layer in a model of NNX."""

  def __init__(self):
    self.query = linear()
    self.head = nnx.bridge.ToNNX(nn.Dense(2), nnx.Rngs(0)).lazy_init(jnp.ones((1, 3)))

  def __call__(self, x):
    return self.head(self.query(x))


def test_a_linen_layer_inside_is_a_part_of_the_model():
  apply, frozen, trainable = adapted(Hybrid())
  assert frozen['head']['kernel'].shape == (3, 2)
  merged = METHOD.merge(frozen, trainable)
  rngs = {'default': KEY}  # It draws from its streams in each call.
  found = Functional(Hybrid()).apply({'params': merged}, X, rngs=rngs)
  np.testing.assert_allclose(found, apply(frozen, trainable, X, rngs=rngs), rtol=1e-5, atol=1e-6)


def test_parameters_of_the_module_are_not_kept():
  model = One(linear())
  held = [x for x in jax.tree.leaves(vars(Functional(model))) if isinstance(x, jax.Array)]
  assert not held


class Shared(nnx.Module):
  def __init__(self):
    self.query = nnx.Linear(6, 6, rngs=nnx.Rngs(0))
    self.value = self.query

  def __call__(self, x):
    return self.value(jnp.tanh(self.query(x)))


def test_a_module_under_two_names_is_adapted_once():
  model = Shared()
  apply, frozen, trainable = adapted(model)
  assert tree.paths(trainable) == ['query/lora_a', 'query/lora_b']
  merged = METHOD.merge(frozen, trainable)
  found = Functional(model).apply({'params': merged}, X)
  np.testing.assert_allclose(found, apply(frozen, trainable, X), rtol=1e-5, atol=1e-6)


class OtherAxis(nnx.Module):
  def __init__(self):
    make = lambda rngs: nnx.Linear(6, 6, rngs=rngs)
    rngs = nnx.Rngs(0)
    self.query = nnx.split_rngs(splits=3)(nnx.vmap(make, out_axes=1))(rngs)

  def __call__(self, x):
    run = lambda x, layer: layer(x)
    return nnx.scan(run, in_axes=(nnx.Carry, 1), out_axes=nnx.Carry)(x, self.query)


def test_layers_stacked_on_another_axis_are_named():
  with pytest.raises(ValueError, match=r"'query/\w+' is .* in its call: .*stacked on axis 0"):
    METHOD.init(KEY, OtherAxis(), X)


def test_parameters_that_no_method_uses_are_an_error():
  _, frozen, trainable = adapted(One(linear()))
  with pytest.raises(ValueError, match=r'query/lora_a, query/lora_b: .*bind\(model, method\)'):
    Functional(One(linear())).apply({'params': tree.join(frozen, trainable)}, X)
  other = {'layers_7': trainable['query']}
  with pytest.raises(ValueError, match=r'adapt: layers_7/lora_a, .*: the model has no parameters'):
    adapt(One(linear()), METHOD, frozen, other)
  with pytest.raises(ValueError, match=r'params are not those of this One: missing query/kernel'):
    bind(One(linear()), METHOD)({'query': {'bias': jnp.zeros(3)}}, trainable, X)


@pytest.mark.parametrize('layout', ['loop', 'scan+remat'])
def test_a_quantized_base(layout):
  model, ids = Stack(layout), jnp.zeros((1, 3), int)
  method = lora(rank=2, alpha=3.0, targets='.*/query')
  frozen, trainable = method.init(KEY, model, ids)
  codes, trainable = quantization.quantize(frozen, 'int8'), disturbed(trainable)
  assert len(quantization.kernels(codes)) == (1 if 'scan' in layout else 2) * 4
  run = jax.jit(bind(model, method))
  found, exact = run(codes, trainable, ids), run(quantization.exact(codes), trainable, ids)
  np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4)
  adapted, _ = adapt(model, method, codes, trainable)
  np.testing.assert_allclose(nnx.jit(lambda m: m(ids))(adapted), found, rtol=1e-5, atol=1e-6)


def test_two_parameters_of_one_path_are_named():
  class Twice(nnx.Module):
    def __init__(self):
      self.layers, self.layers_0 = nnx.List([linear()]), linear()

  with pytest.raises(ValueError, match='two parameters have one path: layers_0/bias'):
    params(Twice())


def test_a_prefix_reaches_embeddings_in_which_it_has_no_leaf():
  # Ids beyond the vocabulary: without the method's clipping the lookup gives NaN.
  method = prefix_embed(prefix=2, infix=0)
  model = Stack('loop')
  frozen, trainable = method.init(KEY, model, jnp.zeros((1, 3), int))
  apply = jax.jit(bind(model, method))
  assert np.isfinite(apply(frozen, trainable, jnp.array([[50, 51, 3]]))).all()


class Meshed(nnx.Module):
  """Two layers whose products are split over the mesh, said in the call as MaxText does."""

  def __init__(self, explicit):
    self.explicit = explicit
    self.query, self.out = nnx.Linear(6, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 6, rngs=nnx.Rngs(1))

  def __call__(self, x):
    said = lambda *axes: PartitionSpec(None, None, *axes) if self.explicit else None
    return self.out(nnx.gelu(self.query(x, out_sharding=said('model'))), out_sharding=said(None))


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit], ids=['auto', 'explicit'])
def test_on_a_mesh_it_computes_what_one_device_does(kind):
  method = lora(rank=2, alpha=3.0, targets='query|out')
  apply, *parts = adapted(Meshed(False), method=method)
  loss = lambda apply: jax.jit(
    jax.value_and_grad(lambda t, frozen, x: (apply(frozen, t, x) ** 2).sum())
  )
  expected = loss(apply)(parts[1], parts[0], X)
  mesh = jax.make_mesh((2,), ('model',), (kind,), devices=jax.devices()[:2])
  axes = {
    'query/kernel': (None, 'model'), 'query/bias': ('model',), 'query/lora_b': (None, 'model'),
    'out/kernel': ('model', None), 'out/lora_a': ('model', None),
  }  # fmt: skip
  place = lambda part: tree.unflatten({
    path: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes.get(path, ()))))
    for path, x in tree.flatten(part).items()
  })  # fmt: skip
  with jax.set_mesh(mesh):
    model = Meshed(kind == AxisType.Explicit)
    frozen, trainable = map(place, parts)
    found = loss(bind(model, method))(
      trainable, frozen, jax.device_put(X, NamedSharding(mesh, PartitionSpec()))
    )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), found, expected)
  assert found[1]['query']['lora_b'].sharding.spec == PartitionSpec(None, 'model')
