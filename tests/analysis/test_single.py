"""Measurements of one run, looped and scanned, with and without its base."""

import numpy as np
import pytest

from lora_jax import quantization
from lora_jax.analysis import factors, single
from tests.analysis.planted import OPTIONS, D, K, orthogonal, trained, update


def test_a_scanned_base_is_the_looped_one():
  looped, scanned = (factors.updates(trained(s), OPTIONS) for s in (False, True))
  kernels = np.random.default_rng(1).standard_normal((3, D, K))
  place = lambda x: {'attention': {'query': {'kernel': x}}}
  frozen = [
    {'encoder': {f'layers_{i}': place(kernels[i]) for i in range(3)}},
    {'encoder': {'layers': place(kernels)}},
  ]
  one, two = (single.measure(u, f) for u, f in zip((looped, scanned), frozen))
  assert one['table7'] == two['table7']
  assert [row['layer'] for row in one['table7']] == [0, 1, 2]
  assert [row['update'] for row in one['table7']] == pytest.approx(
    [row['norm'] for row in one['spectra']]
  )


def test_a_quantized_weight_is_dequantized():
  (own,) = (found for found in factors.updates(trained(False), OPTIONS) if found.layer == 1)
  stack = np.random.default_rng(1).standard_normal((3, D, K)).astype(np.float32)
  place = lambda x: {'attention': {'query': {'kernel': x}}}
  coded = quantization.quantize({'encoder': {'layers': place(stack)}}, 'int8')
  found = single.kernel(coded, own)
  np.testing.assert_array_equal(found, single.kernel(quantization.exact(coded), own))
  assert found.dtype == np.float64 and 0 < np.abs(found - stack[1]).max() < 0.02


def test_layers_that_share_a_subspace_are_found():
  """Layers 0 and 2 read the same directions and write others; layer 1 reads orthogonal ones."""
  left, right = orthogonal(D, 8), orthogonal(K, 9)
  found = [
    update(left[:, cols], right[:, out].T, path=f'encoder/layers_{i}/attention/query')._replace(
      layer=i
    )
    for i, (cols, out) in enumerate([([0, 1], [0, 1]), ([2, 3], [2, 3]), ([1, 0], [4, 5])])
  ]
  inputs, outputs = single.measure(found)['layers']
  assert (inputs['side'], outputs['side']) == ('input', 'output')
  np.testing.assert_allclose(inputs['whole'], [[1, 0, 1], [0, 1, 0], [1, 0, 1]], atol=1e-12)
  np.testing.assert_allclose(outputs['whole'], np.eye(3), atol=1e-12)
  assert inputs['whole_by_chance'] == 2 / D


ZERO = trained()
ZERO['encoder']['layers_1']['attention']['query']['lora_b'][:] = 0


@pytest.mark.parametrize(
  'options, words',
  [
    (dict(layers=[3, 9]), r'layers \[3, 9\].*0, 1, 2'),
    (dict(matrices=['qurey']), "'qurey' matches no adapted matrix.*query"),
    (dict(frozen={}), 'layers_0/attention/query/kernel.*missing'),
  ],
)
def test_mistakes_are_named(options, words):
  with pytest.raises(ValueError, match=words):
    single.measure(factors.updates(trained(), OPTIONS), **options)


def test_an_update_of_zero_and_one_outside_of_layers_are_named():
  with pytest.raises(ValueError, match=r'is zero of .*layers_1[^,]*: was'):
    single.measure(factors.updates(ZERO, OPTIONS))
  outside = update(np.ones((D, 2)), np.ones((2, K)), path='pooler')._replace(layer=None)
  with pytest.raises(ValueError, match=r'no adapted matrix lies in a numbered layer \(layers_0, '):
    single.measure([outside])
