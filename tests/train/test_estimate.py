"""Estimated seconds: what they depend on, and that a run's shapes follow them."""

import dataclasses
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


def test_layers_are_scanned_until_their_slower_steps_cost_more_than_compiling_each():
  saved = {
    platform: estimate.PROGRAMS
    * (
      estimate.shape_seconds(platform, BASE, scan=False)
      - estimate.shape_seconds(platform, BASE, scan=True)
    )
    for platform in ('cpu', 'gpu')
  }
  for platform, seconds in saved.items():
    speed = estimate.SPEEDS[platform]
    step = 12 * speed.launch + 4096 * estimate.token_seconds(platform, BASE, 0)
    even = seconds / (step * (speed.scanned - 1))
    choose = lambda steps: estimate.is_scanned_sooner(platform, BASE, tokens=4096, steps=steps)
    assert choose(int(0.99 * even)) and not choose(int(1.01 * even) + 1)
  # An epoch of RTE on MiniLM: each of them measured.
  small = dataclasses.replace(BASE, num_layers=6, hidden_size=384)
  assert estimate.is_scanned_sooner('gpu', small, tokens=2048, steps=78)
  assert not estimate.is_scanned_sooner('cpu', small, tokens=2048, steps=78)


def test_a_length_of_prompts_costs_the_two_programs_of_decoding():
  for platform in ('cpu', 'gpu'):
    cost = estimate.length_tokens(platform, BASE, scan=False)
    assert cost == pytest.approx(2 * estimate.shape_tokens(job(BASE), platform)[1])
    assert estimate.length_tokens(platform, BASE, scan=True) < cost
  costs = [estimate.length_tokens(platform, BASE, scan=False) for platform in ('cpu', 'gpu')]
  assert costs[0] < costs[1] / 100
