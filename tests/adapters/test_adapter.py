"""Adapters on their base: every method, both layouts of layers, and every base that is another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import methods, stacking, tree
from lora_jax.adapters import adapter as adapters
from tests.adapters.bases import METHODS, NUMBERED, base, make, same, scanned


def test_every_method_is_in_the_table():
  assert set(methods.METHODS) <= set(METHODS)


@pytest.mark.parametrize('name', METHODS)
def test_an_adapter_goes_on_its_base_without_a_copy(name):
  (model, params), adapter = base(), make(name)
  method, frozen, trainable = adapters.attach(adapter, model, params)
  same(trainable, adapter.trainable)
  assert all(leaf is tree.flatten(params)[path] for path, leaf in tree.flatten(frozen).items())
  assert set(tree.flatten(params)) <= {*tree.flatten(frozen), *tree.flatten(trainable)}
  assert method.virtual == methods.make(**adapter.method).virtual
  if name in NUMBERED:
    with pytest.raises(ValueError, match=r'scan=False'):
      adapters.attach(adapter, *scanned())
    return
  _, _, trainable = adapters.attach(adapter, *scanned())
  assert stacking.is_scanned(trainable) or name in ('prefix_embed', 'intrinsic')
  same(stacking.unstack(trainable), adapter.trainable)


def test_an_adapter_computes_the_same_looped_and_scanned():
  adapter = make()
  ids = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
  logits = []
  for model, params in (base(), scanned()):
    method, frozen, trainable = adapters.attach(adapter, model, params)
    logits.append(jax.jit(methods.bind(model.apply, method))(frozen, trainable, ids))
  np.testing.assert_allclose(*logits, atol=1e-5)
  plain = jax.jit(base()[0].apply)({'params': base()[1]}, ids)
  assert np.abs(plain - logits[0]).max() > 1e-2


@pytest.mark.parametrize('name', ['lora', 'bitfit', 'full'])
def test_another_base_is_an_error_that_says_what_differs(name):
  model, params = base()
  adapter = make(name)
  key = 'encoder/layers_1/attention/query/bias'
  leaves = tree.flatten(params)
  changed = tree.unflatten(leaves | {key: leaves[key] + 0.01})
  if name == 'lora':
    with pytest.raises(ValueError, match=r'some/base.*layers_\*/attention/query/bias.*other_base'):
      adapters.attach(adapter, model, changed)
    adapters.attach(adapter, model, changed, other_base=True)
  else:  # These adapters replace that parameter.
    adapters.attach(adapter, model, changed)


def test_another_architecture_and_another_head_are_told_apart():
  model, params = base()
  other = base(num_layers=1)
  with pytest.raises(ValueError, match="num_layers: 2 in the adapter's base, 1 in the model"):
    adapters.attach(make(), *other)
  two = {**params, 'classifier': jax.tree.map(lambda x: x[..., :2], params['classifier'])}
  with pytest.raises(ValueError, match=r'2 outputs, the adapter 3.*num_labels=3'):
    adapters.attach(make(), model.clone(num_labels=2), two)


def test_an_adapter_is_checked_against_what_its_method_trains():
  adapter = make()
  adapters.check(adapter, 'here')
  key = 'encoder/layers_0/attention/query/lora_a'
  leaves = tree.flatten(adapter.trainable)
  changed = lambda **more: adapter._replace(trainable=tree.unflatten(leaves | more))
  with pytest.raises(ValueError, match=r'here: .*unexpected new \(16, 3\)'):
    adapters.check(changed(new=leaves[key]), 'here')
  with pytest.raises(ValueError, match=f'expected float32, but {key} is float16'):
    adapters.check(changed(**{key: leaves[key].astype(np.float16)}), 'here')
  with pytest.raises(ValueError, match=r'here: no such model or method: .*lore'):
    adapters.check(adapter._replace(method={'name': 'lore'}), 'here')


def test_options_come_back_from_json():
  assert adapters.options_from_json({'a': [1, [2]], 'b': {'c': [3]}, 'd': 'x'}) == {
    'a': (1, (2,)),
    'b': {'c': (3,)},
    'd': 'x',
  }
