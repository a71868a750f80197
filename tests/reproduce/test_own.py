"""A table on another base has its methods at settings of our own."""

import pytest

from configs import _base
from experiments import _tables
from lora_jax.paper import entries
from lora_jax.reproduce import own, units
from lora_jax.reproduce.own import Search
from lora_jax.reproduce.units import Choice

OWN = Choice(model='m/base')


def runs(rows):
  return [c for row in rows for c in units.runs_of(row, _tables.CONFIGS, {}).values()]


def test_table_3_has_every_method_and_lora_on_all_matrices():
  rows = units.with_seeds(own.rows('table', '3', OWN, 'e2e'), 2)
  assert [row.name for row in rows][:3] == ['full-seed-0', 'lora-seed-0', 'lora-all-seed-0']
  configs = runs(rows)
  assert [c.seed for c in configs] == [0] * 8 + [1] * 8
  assert {c.preset for c in configs} == {'llm'} and {c.model.name for c in configs} == {'m/base'}
  assert len(configs[2].method.targets[0]) > len(configs[1].method.targets[0])
  assert [c.method.name for c in configs[3:8]] == list(own.METHODS)[3:]


@pytest.mark.parametrize('number, count', [('5', 7), ('6', 15), ('18', 11)])
def test_an_ablation_is_a_sweep_for_each_seed(number, count):
  rows = units.with_seeds(own.rows('table', number, OWN, 'e2e'), 2)
  assert [row.command for row in rows] == ['sweep', 'sweep']
  assert len({row.name for row in rows}) == 2
  for seed, row in enumerate(rows):
    configs = runs([row])
    assert len(configs) == count
    assert {(c.seed, c.task, c.preset) for c in configs} == {(seed, 'e2e', 'llm')}
  (other, *_) = own.rows('table', number, OWN._replace(tasks=('cola',)), 'e2e')
  assert other.name.startswith('cola-') and {
    c.preset for c in runs(units.with_seeds([other], 1))
  } == {'small'}


def test_table_16_is_a_sweep_of_each_of_the_papers_methods():
  rows = units.with_seeds(own.rows('table', '16', OWN._replace(tasks=('cola',)), 'e2e'), 2)
  assert [row.seed for row in rows] == 4 * [0] + 4 * [1]
  assert {row.command for row in rows} == {'sweep'}
  assert len({row.name for row in rows}) == 8
  configs = runs(rows[:4])
  assert [c.method.name for c in configs[::4]] == list(entries.METHODS_OF_TABLE_16)
  assert {c.preset for c in configs} == {'compare'} and len(configs) == 16
  texts = units.with_seeds(own.rows('table', '16', OWN, 'e2e'), 1)
  assert {c.preset for c in runs(texts)} == {'llm'}
  (row,) = own.rows('table', '16', OWN._replace(tasks=('cola',), methods=('lora',)), 'e2e')
  assert row.name == 'cola-low_data-lora-seed-{seed}'


def test_table_15_is_a_sweep_of_each_method_and_of_each_size_of_a_prefix():
  cola = OWN._replace(tasks=('cola',))
  rows = units.with_seeds(own.rows('table', '15', cola, 'e2e'), 1)
  assert [row.name.removeprefix('cola-sizes-').removesuffix('-seed-0') for row in rows] == [
    'full',
    *(f'prefix_embed-{n}' for n in (32, 64, 128, 256, 512)),
    *('prefix_layer', 'adapter_h', 'lora'),
  ]
  assert len(runs(rows)) == 26 and {c.experiment for c in runs(rows)} == {'sizes'}
  assert own.rows('figure', '2', cola, 'e2e') == own.rows('table', '15', cola, 'e2e')
  with pytest.raises(ValueError, match="unknown method 'bitfit' of this table"):
    own.rows('table', '15', cola._replace(methods=('bitfit',)), 'e2e')


def test_a_figure_trains_the_ranks_and_seeds_that_it_compares():
  for what, expected in {
    'figure-3': {(8, 0), (64, 0)},
    'figure-4': {(64, 0), (64, 1)},
    'table-7': {(4, 0), (64, 0)},
  }.items():
    found = {(c.method.rank, c.seed) for c in runs(own.analyzed(what, OWN, 'e2e'))}
    assert found == expected
  assert not set(entries.WEIGHTS_OF_TABLE_6) - {'Wq', 'Wq,Wv', 'Wq,Wk,Wv,Wo'}


def test_table_2_tries_the_rates_with_the_first_seed_and_waits_for_the_best():
  choice = OWN._replace(tasks=('rte', 'cola'), methods=('lora', 'full'), seeds=3)
  searches = {
    ('rte', 'lora'): Search((3e-2,), None, 1e-2),
    ('rte', 'full'): Search((), 2e-3, None),
  }
  found = list(own.glue(choice, lambda *key: searches.get(key, Search((), None, None))))
  assert [unit.name for unit in found] == [
    'rte-lora-rates', 'rte-lora-rate-0.03', 'cola-lora-rates',
    'rte-full-rates', 'rte-full-rate-0.002', 'cola-full-rates',
    *('rte-lora-seed-1', 'cola-lora-seed-1', 'rte-full-seed-1', 'cola-full-seed-1'),
    *('rte-lora-seed-2', 'cola-lora-seed-2', 'rte-full-seed-2', 'cola-full-seed-2'),
  ]  # fmt: skip
  by_name = {unit.name: unit for unit in found}
  assert [c.optim.lr for c in runs([by_name['rte-lora-rates']])] == list(_base.RATES['lora'])
  (best,) = runs([by_name['rte-lora-seed-2']])
  assert (best.seed, best.optim.lr, best.method.name, best.task) == (2, 1e-2, 'lora', 'rte')
  assert by_name['rte-full-seed-1'].waits and not runs([by_name['rte-full-seed-1']])
  assert {unit.part for unit in found} == {'rte-lora', 'rte-full', 'cola-lora', 'cola-full'}


def test_an_unknown_name_is_refused():
  with pytest.raises(ValueError, match=r"unknown task 'e2'.*'e2e'"):
    own.rows('table', '5', OWN._replace(tasks=('e2',)), 'cola')
  with pytest.raises(ValueError, match="unknown method 'full'"):
    own.rows('table', '5', OWN._replace(methods=('full',)), 'cola')
  with pytest.raises(ValueError, match="unknown task 'rte'"):
    own.rows('table', '3', OWN._replace(tasks=('rte',)), 'e2e')
  with pytest.raises(ValueError, match='figure-3 is of the runs of one task'):
    own.analyzed('figure-3', OWN._replace(tasks=('rte', 'cola')), 'e2e')
  with pytest.raises(ValueError, match=r"unknown task 'ret'.*rte"):
    list(own.glue(OWN._replace(tasks=('ret',)), lambda *key: Search((), None, None)))
