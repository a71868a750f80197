"""Estimated seconds: what they depend on, and that a run's shapes follow them."""

import types

import pytest

from lora_jax.models import presets
from lora_jax.train import estimate

BASE, LARGE = (presets.PRESETS[f'roberta-{size}'].config for size in ('base', 'large'))


def job(architecture, *, scan=False, trained=0):
  model = types.SimpleNamespace(config=architecture, scan=scan)
  return types.SimpleNamespace(model=model, summary=types.SimpleNamespace(trainable=trained))


def test_operations_are_four_for_each_parameter_of_a_layer_and_six_where_it_is_trained():
  layers = 12 * 12 * 768**2
  frozen, full = (
    estimate.token_seconds('cpu', BASE, trained) * estimate.SPEEDS['cpu'].flops
    for trained in (0, 10**9)
  )
  assert frozen == pytest.approx(4 * layers) and full == pytest.approx(6 * layers)


def test_a_scanned_layer_is_compiled_once_for_all():
  of = lambda architecture, scan: estimate.shape_seconds('gpu', architecture, scan=scan)
  assert of(BASE, True) == of(LARGE, True) < of(BASE, False) < of(LARGE, False)


def test_a_shape_costs_fewer_tokens_the_slower_a_token_is():
  costs = {
    (platform, name): estimate.shape_tokens(job(architecture), platform)
    for platform in ('cpu', 'gpu')
    for name, architecture in (('base', BASE), ('large', LARGE))
  }
  for place in range(2):
    training = {key: cost[place] for key, cost in costs.items()}
    assert training['cpu', 'large'] < training['cpu', 'base'] < training['gpu', 'base'] / 100
  assert estimate.shape_tokens(job(BASE), 'new') == estimate.shape_tokens(job(BASE), 'gpu')
