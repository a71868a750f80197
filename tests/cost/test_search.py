"""Searches over plans, with made-up plans in the place of compilations."""

import dataclasses

import pytest

from lora_jax import tree
from lora_jax.cost import search, shapes, topology
from lora_jax.models import layers
from tests.cost import toys

HOST = dataclasses.replace(topology.find('this'), name='toy', exact=False, count=1, memory=1000)


@pytest.fixture
def planned(monkeypatch):
  """The configs that were planned; a plan takes 90 bytes and 10 for each row of a batch."""
  configs = []

  def plan(config, where, **options):
    configs.append(config)
    rows, total = config.train.batch_size, 90 + 10 * config.train.batch_size
    return toys.plan(total, where.memory, batch_size=rows, topology=where.name)

  monkeypatch.setattr(search, 'plan', plan)
  return configs


def test_the_largest_batch_that_fits_is_found_in_a_few_plans(planned):
  found = search.largest_batch(toys.config(), HOST)
  assert found['batch_size'] == 91 and found['fits'] and not found['exhausted']
  assert len(planned) <= 5 and len({config.train.batch_size for config in planned}) == len(planned)


def test_a_batch_is_of_whole_parts(planned):
  config = toys.config(**{'train.accumulate': 4})
  assert search.largest_batch(config, HOST)['batch_size'] == 88


def test_a_search_says_that_its_limit_ended_it(planned):
  assert search.largest_batch(toys.config(), HOST, limit=2)['exhausted']
  assert len(planned) == 2


def test_a_batch_that_never_fits_is_refused_with_what_is_missing(planned):
  with pytest.raises(ValueError, match=r'a batch of 1 does not fit toy: 0.00 GiB too much'):
    search.largest_batch(toys.config(), dataclasses.replace(HOST, memory=50))


def test_every_policy_of_rematerialization_is_planned(planned):
  found = search.compare_remat(toys.config(), HOST)
  assert list(found) == list(layers.REMAT) == [config.model.remat for config in planned]


def test_slices_are_tried_in_order_until_one_fits(monkeypatch):
  work = shapes.abstract_job(toys.config())
  sizes = {'a': tree.nbytes(work.frozen) // 2, 'b': 10**9, 'c': 10**9, 'd': 10**9}
  monkeypatch.setattr(topology, 'slices', lambda kind: list(sizes))
  monkeypatch.setattr(
    topology, 'find', lambda name: dataclasses.replace(HOST, name=name, memory=sizes[name])
  )

  def plan(config, where):
    if where.name == 'b':
      raise ValueError('no mesh')
    return toys.plan(1, where.memory, topology=where.name)

  monkeypatch.setattr(search, 'plan', plan)
  found = list(search.smallest_slice(toys.config(), 'v5e'))
  assert [search.as_json(one)['topology'] for one in found] == ['a', 'b', 'c']
  assert [search.as_json(one)['fits'] for one in found] == [False, False, True]
  assert 'of at least' in found[0].message and found[1].message == 'no mesh'
