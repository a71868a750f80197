"""Merged LoRA is the bare model's program; adapters have the counts of table 1; the picture."""

import itertools
import re
import types

import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import methods
from lora_jax.cost import counts, latency
from lora_jax.models import presets
from lora_jax.paper import entries
from lora_jax.pretrained import fresh_model
from lora_jax.report.pages import latency as page

TOY = presets.architecture(
  'gpt2', vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, max_positions=32
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


def test_settings_and_grid_measure_every_batch_and_length(toy):
  base, _, _ = toy
  passes = latency.Passes(trials=2, warm_up=0)
  (setting,) = latency.measure_settings(base, {'1x4': ADAPTERS}, LORA, passes)
  assert setting[0] == '1x4'
  assert list(setting[1]) == ['bare', 'lora, merged', 'lora, beside', *ADAPTERS]
  cells = list(
    latency.measure_grid(base, [1, 2], [4], {'adapter_h 4': ADAPTERS['adapter_h']}, passes)
  )
  assert [cell[:2] for cell in cells] == [(1, 4), (2, 4)]
  assert list(cells[0][2]) == ['bare', 'adapter_h 4']


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


@pytest.mark.parametrize('printed', entries.ADAPTERS_OF_TABLE_1)
def test_the_adapters_have_the_counts_of_table_1(printed):
  for method, size in entries.ADAPTERS_OF_TABLE_1[printed].items():
    found = counts.summarize_preset(
      'gpt2-medium', method, dict(bottleneck=size), scan=True
    ).trainable
    assert f'{found / 1e6:.{"1f" if "." in printed else "0f"}}M' == printed
  sizes = {row.options['bottleneck'] for row in entries.TABLE_3 if row.printed == '11.09M'}
  assert set(entries.ADAPTERS_OF_TABLE_1['11M'].values()) == sizes


def test_the_picture_and_the_table(tmp_path):
  row = {'mean': 23.9, 'sd': 2.1, 'slowdown': 20.7, 'trials': 9}
  adapters = {f'{method} {size}': row for method in page.METHODS for size in (10, 100)}
  cells = [
    {'batch': batch, 'length': length, 'rows': {'bare': row} | adapters}
    for batch, length in itertools.product((1, 2), (128, 256))
  ]
  page.draw(cells, tmp_path / 'figure.png')
  assert (tmp_path / 'figure.png').read_bytes()[1:4] == b'PNG'
  settings = [{'batch': 1, 'length': 128, 'adapters': '11M', 'rows': {'adapter_l': row}}]
  (found,) = page.rows(settings)
  assert found == {
    '': 'adapter_l',
    'batch 1, length 128, 9 passes (adapters 11M)': '23.9 ± 2.1 (+20.7%)',
  }
