"""Adapters in a bank's arrays: what a bank needs for them, padding, scale, and wider heads."""

import numpy as np
import pytest

from lora_jax import tree
from lora_jax.models.presets import TOKENS
from lora_jax.serving import fit
from tests.serving.toys import OPTIONS, base, make

QUERY = 'encoder/layers_0/attention/query'


def arrays(scan=False):
  """The arrays of a base for queries of rank 4 and a head of 3 labels; all values are 7."""
  shapes = {f'{QUERY}/lora_a': (16, 4), f'{QUERY}/lora_b': (4, 16), 'classifier/bias': (3,)}
  if scan:
    shapes = {
      path.replace('layers_0', 'layers'): (2, *shape) if 'lora' in path else shape
      for path, shape in shapes.items()
    }
  return {path: np.full(shape, 7, np.float32) for path, shape in shapes.items()}


def adapter_on(*paths):
  """The adapter `small`, of rank 1 and alpha 3, cut down to a query and the head's bias."""
  adapter = make('small', 'bert')
  leaves = tree.flatten(adapter.trainable)
  kept = {path: leaves[path] for path in paths}
  options = dict(adapter.method, targets=QUERY, train='classifier/bias')
  return adapter._replace(method=options, trainable=tree.unflatten(kept))


def test_needs_of_looped_and_scanned_layers():
  adapters = {name: make(name, 'bert') for name in OPTIONS}
  looped, scanned = (fit.needs(adapters, scan) for scan in (False, True))
  assert looped.rank == scanned.rank == 4
  assert looped.num_labels == 3
  assert any('layers_0' in pattern for pattern in looped.targets)
  assert not any('layers_' in pattern for pattern in scanned.targets)
  assert 'embeddings/word' in scanned.targets
  assert {'pooler/kernel', 'classifier/bias'} <= set(looped.train)


def test_an_adapter_is_padded_and_its_scale_is_folded_in():
  adapter = adapter_on(f'{QUERY}/lora_a', f'{QUERY}/lora_b', 'classifier/bias')
  leaves = tree.flatten(adapter.trainable)
  found = fit.values('small', adapter, arrays(), rank=4, num_labels=3)
  a, b = found[f'{QUERY}/lora_a'], found[f'{QUERY}/lora_b']
  np.testing.assert_array_equal(a[:, :1], leaves[f'{QUERY}/lora_a'])
  np.testing.assert_array_equal(b[:1], 3 * leaves[f'{QUERY}/lora_b'])
  assert not a[:, 1:].any() and not b[1:].any()
  np.testing.assert_array_equal(found['classifier/bias'], [*leaves['classifier/bias'], 0])


def test_a_layer_fills_its_part_of_a_stack_and_the_rest_is_the_base():
  adapter = adapter_on(f'{QUERY}/lora_a', f'{QUERY}/lora_b', 'classifier/bias')
  found = fit.values('small', adapter, arrays(scan=True), rank=4, num_labels=3)
  a = found['encoder/layers/attention/query/lora_a']
  assert (a[1] == 7).all() and not a[0, :, 1:].any() and a[0, :, 0].all()


def test_what_does_not_fit_is_in_one_message():
  adapter = adapter_on(f'{QUERY}/lora_a', 'pooler/bias')
  with pytest.raises(ValueError) as error:
    fit.values('small', adapter, arrays(), rank=4, num_labels=3)
  lines = str(error.value).splitlines()
  assert lines[0] == "adapter 'small' does not fit the bank:"
  assert [line.strip().split(':')[0] for line in lines[1:]] == [
    f'{QUERY}/lora_b',
    'classifier/bias',
    'pooler/bias',
  ]


def test_a_wider_head_keeps_the_outputs_of_the_base():
  model, params = base('bert')
  wide, wider = fit.widen_head(model, params, 5, (TOKENS,), {})
  assert wide.num_labels == 5
  before, after = tree.flatten(params), tree.flatten(wider)
  for path, leaf in before.items():
    changed = path in ('classifier/kernel', 'classifier/bias')
    assert (after[path].shape != leaf.shape) == changed
    kept = after[path][..., :2] if changed else after[path]
    np.testing.assert_array_equal(kept, leaf)
    assert not changed or not after[path][..., 2:].any()
  assert fit.widen_head(model, params, None, (TOKENS,), {})[0] is model
  with pytest.raises(ValueError, match='num_labels=1: the base has 2 labels'):
    fit.widen_head(model, params, 1, (TOKENS,), {})
