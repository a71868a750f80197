"""Variants of LoRA against LoRA itself: pairs, aims, and what the compiled steps keep."""

import dataclasses

import pytest

from configs import glue, rates
from lora_jax.bench import steps, successors, timing

CASE = steps.random_case('classification', 512, 8, 64, 'full')


class Stub(steps.Variant):
  """Steps that take given seconds, one after the other, on a program of another's."""

  def __init__(self, real, seconds):
    self.model, self.trained = real.model, real.trained
    self._real, self._seconds = real, iter(seconds)

  def program(self, batch):
    return self._real.program(batch)

  def seconds(self, batch, dispatches=1):
    return next(self._seconds)


@pytest.fixture(scope='module')
def real():
  makers = successors.makers(configured('lora'), configured('vera'), rates.METHODS)
  makers['lora'] = lambda task: steps.Variant(configured('lora'), task)
  return {name: make(CASE.task) for name, make in makers.items()}


def configured(method):
  with glue.get_config(f'model=fresh,preset=small,method={method}').unlocked() as config:
    fresh = dataclasses.asdict(timing.SHAPES['toy-roberta']) | {'num_layers': 1}
    config.model.update(fresh=fresh, hidden_dropout=0.0, attention_dropout=0.0)
  return config


def test_a_ratio_is_the_median_of_pairs(real):
  """A machine that becomes ten times slower halfway changes no ratio of a pair."""
  slow = [1.0, 1.0, 10.0, 10.0]
  make = lambda scale: lambda task: Stub(real['lora'], [scale * x for x in slow])
  found = successors.compare({'dora': make(1.2)}, make(1.0), CASE, timing.Rounds(count=3))
  assert list(found.rows) == ['dora', 'lora'] and found.skipped == {}
  assert found.rows['dora']['seconds_ratio'] == pytest.approx(1.2)
  assert (found.rows['dora']['aim'], found.rows['dora']['flops_ratio']) == (1.3, 1.0)
  assert found.rows['lora']['seconds'] == 10.0


def test_plain_lora_has_to_run():
  def refuse(task):
    raise ValueError('no such thing')

  with pytest.raises(ValueError, match='plain LoRA cannot run here: ValueError: no such thing'):
    successors.compare({}, refuse, CASE, timing.Rounds(count=1))


def test_the_variants_are_those_of_the_aims_and_train_what_they_should(real):
  assert {name.partition(' ')[0] for name in real} == {*successors.AIMS, 'lora'}
  trained = {name: variant.trained for name, variant in real.items()}
  head = trained['lora'] - 2 * 2 * 32 * 8  # a and b of query and value, of rank 8.
  assert trained['lora_plus'] == trained['pissa'] == trained['lora']
  assert trained['lora_fa'] == head + 2 * 32 * 8
  assert trained['dora'] == trained['lora'] + 2 * 32
  assert trained['vera r=128'] == head + 2 * (128 + 32)
