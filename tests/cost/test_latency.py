"""Merged LoRA is the bare model's program, and nothing else is; variants take turns."""

import re
import types

import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import methods
from lora_jax.cost import latency
from lora_jax.models import presets
from lora_jax.pretrained import fresh_model

TOY = presets.architecture(
  'gpt2', vocab_size=50, hidden_size=16, num_layers=1, num_heads=2, max_positions=32
)


LORA = methods.lora(rank=2, alpha=4.0)
ADAPTERS = {name: methods.make(name, bottleneck=4) for name in ('adapter_l', 'adapter_h')}


@pytest.fixture(scope='module')
def toy():
  base = latency.LoadedModel(*fresh_model(TOY, task='lm'))
  ids = jnp.arange(16).reshape(2, 8)
  return base, ids, latency.compare(base, ids, LORA, ADAPTERS)


def test_merged_is_the_program_of_the_bare_model_and_nothing_else_is(toy):
  _, ids, variants = toy
  programs = {name: variant.program() for name, variant in variants.items()}
  assert programs['bare'] == programs['lora, merged']
  assert len(set(programs.values())) == 4
  assert 'dot' in programs['bare'] or 'ynn_fusion' in programs['bare']
  assert not re.search(r'metadata|\.py|source_line', programs['bare'])
  logits = {name: v.run(*v.parameters, ids) for name, v in variants.items()}
  np.testing.assert_allclose(logits['lora, merged'], logits['lora, beside'], atol=1e-5)
  assert np.abs(logits['lora, merged'] - logits['bare']).max() > 1e-4


def test_settings_and_grid_measure_every_batch_and_length(toy, monkeypatch):
  base, _, _ = toy
  ids_of = []

  def compiled(apply, ids, trained, *parameters):
    ids_of.append(ids.shape)
    return types.SimpleNamespace(program=lambda: '', seconds=lambda ids: 0.01, trained=trained)

  monkeypatch.setattr(latency, '_compile', compiled)
  passes = latency.Passes(trials=2, warm_up=0)
  (setting,) = latency.measure_settings(base, {'1x4': ADAPTERS}, LORA, passes)
  assert setting[0] == '1x4'
  assert list(setting[1]) == ['bare', 'lora, merged', 'lora, beside', *ADAPTERS]
  cells = list(
    latency.measure_grid(base, [1, 2], [4], {'adapter_h 4': ADAPTERS['adapter_h']}, passes)
  )
  assert [cell[:2] for cell in cells] == [(1, 4), (2, 4)]
  assert list(cells[0][2]) == ['bare', 'adapter_h 4']
  assert ids_of == [(1, 4)] * 7 + [(2, 4)] * 2


def test_another_program_is_not_let_through(toy, monkeypatch):
  base, ids, _ = toy
  monkeypatch.setattr(latency, 'merged', latency.beside)
  with pytest.raises(AssertionError, match='another program than the bare one'):
    latency.compare(base, ids, LORA, {})


def test_times_are_to_the_first_variant(toy):
  _, ids, variants = toy
  rows = latency.time_variants(variants, ids, latency.Passes(trials=3, warm_up=1))
  assert list(rows) == ['bare', 'lora, merged', 'lora, beside', 'adapter_l', 'adapter_h']
  assert rows['bare']['slowdown'] == 0
  for row in rows.values():
    assert row['mean'] > 0 and row['sd'] >= 0
    assert row['slowdown'] == pytest.approx(100 * (row['median'] / rows['bare']['median'] - 1))
    assert row['trials'] == 3
  assert rows['bare']['trained'] == 0 < rows['lora, beside']['trained']


@pytest.mark.parametrize('limit, trials', [(0, 2), (0.09, 5), (1, 7)])
def test_a_limit_ends_between_rounds_but_not_before_two(limit, trials):
  clock = types.SimpleNamespace(seconds=lambda ids: 0.01, trained=0)
  passes = latency.Passes(trials=7, warm_up=1, limit=limit)
  rows = latency.time_variants({'bare': clock, 'other': clock}, None, passes)
  assert [row['trials'] for row in rows.values()] == [trials, trials]
