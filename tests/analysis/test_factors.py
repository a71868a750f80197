"""Updates from trained parameters: their scale, layers and singular values."""

import math

import numpy as np
import pytest

from lora_jax.analysis import factors
from lora_jax.methods import lora
from tests.analysis.planted import OPTIONS, D, K, trained, update


@pytest.mark.parametrize('rank', [1, 3, 24, 60])
def test_thin_svd_is_that_of_the_product(rank):
  random = np.random.default_rng(rank)
  a, b = random.standard_normal((D, rank)), random.standard_normal((rank, K))
  inputs, values, outputs = factors.thin_svd(update(a, b, scale=2.0))
  assert len(values) == min(rank, K)
  np.testing.assert_allclose(inputs * values @ outputs.T, 2 * a @ b, atol=1e-9)
  for side in (inputs, outputs):
    np.testing.assert_allclose(side.T @ side, np.eye(len(values)), atol=1e-10)


@pytest.mark.parametrize(
  'options, scale',
  [
    ({}, 3.0),
    ({'rslora': True}, 6 / math.sqrt(2)),
    ({'alpha': {r'.*/query': 5.0, '.*': 1.0}}, 2.5),
    ({'name': 'lora+prefix_embed', 'before': 4}, 3.0),
  ],
)
def test_the_scale_is_the_methods_own(options, scale):
  found = factors.updates(trained(), OPTIONS | options)
  assert [update.scale for update in found] == pytest.approx([scale] * 3)


def test_the_scale_is_not_rounded_to_float32():
  found = factors.updates(trained(), OPTIONS | {'alpha': 0.1})
  assert [update.scale for update in found] == [0.1 / 2] * 3


def test_an_update_is_what_merging_adds():
  weight = {'attention': {'query': {'kernel': np.zeros((D, K), np.float32)}}}
  frozen = {'encoder': {f'layers_{i}': weight for i in range(3)}}
  merged = lora(rank=2, alpha=6.0).merge(frozen, trained())
  for found in factors.updates(trained(), OPTIONS):
    inputs, values, outputs = factors.thin_svd(found)
    layer = merged['encoder'][f'layers_{found.layer}']['attention']['query']['kernel']
    np.testing.assert_allclose(inputs * values @ outputs.T, layer, atol=1e-4)


def test_scanned_layers_are_the_looped_ones():
  looped, scanned = (factors.updates(trained(s), OPTIONS) for s in (False, True))
  assert [u.path for u in looped] == [u.path for u in scanned]
  assert [u.layer for u in scanned] == [0, 1, 2]
  for one, two in zip(looped, scanned):
    np.testing.assert_array_equal(one.a, two.a)
    np.testing.assert_array_equal(one.b, two.b)


def test_patterns_of_a_scanned_model_hold_for_its_layers():
  options = OPTIONS | {'alpha': {'encoder/layers/.*': 4.0}}
  assert [update.scale for update in factors.updates(trained(True), options)] == [2.0] * 3


NAN = trained()
NAN['encoder']['layers_1']['attention']['query']['lora_b'][0, 0] = np.nan


@pytest.mark.parametrize(
  'found, options, words',
  [
    ({'x': {'bias': np.ones(3)}}, {'name': 'bitfit'}, 'bitfit.*x/bias'),
    (trained(rank=0), OPTIONS, 'rank 0'),
    (NAN, OPTIONS, 'layers_1.*diverged'),
  ],
)
def test_mistakes_are_named(found, options, words):
  with pytest.raises(ValueError, match=words):
    factors.updates(found, options)
