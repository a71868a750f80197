"""Batches of a comparison, and variants of which some cannot run."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from configs import glue
from lora_jax.bench import attention, steps, sweeps, timing

ONCE = timing.Rounds(count=1)


@pytest.fixture(scope='module')
def case():
  return steps.random_case('classification', 512, 2, 16, 'full')


def configured():
  with glue.get_config('model=fresh,preset=small').unlocked() as config:
    fresh = dataclasses.asdict(timing.SHAPES['toy-roberta']) | {'num_layers': 1}
    config.model.update(fresh=fresh, hidden_dropout=0.0, attention_dropout=0.0)
  return config


def test_packed_rows_hold_three_examples_and_no_padding():
  batch = steps.random_case('classification', 512, 4, 32, 'packed').batch
  assert batch['input_ids'].shape == (1, 4, 32) and batch['labels'].shape == (1, 4, 3)
  assert np.bincount(batch['segment_ids'].ravel()).tolist() == [0, 4 * 16, 4 * 8, 4 * 8]


def test_padded_rows_hold_half_to_all_of_the_tokens():
  batch = steps.random_case('classification', 512, 3, 32, 'padded').batch
  assert (batch['segment_ids'] > 0).sum(-1).tolist() == [[16, 24, 32]]


def test_a_language_model_has_a_loss_on_every_token_but_the_first():
  batch = steps.random_case('lm', 512, 2, 16, 'full').batch
  assert batch['labels'].shape == (1, 2, 16) and batch['weights'].sum() == 2 * 15
  assert (batch['input_ids'][0, :, 1:] == batch['labels'][0, :, :15]).all()


def test_a_dispatch_of_several_steps_repeats_the_batch(case):
  assert case.times(3)['input_ids'].shape == (3, 2, 16)


def test_a_variant_that_cannot_run_is_skipped_with_its_reason(case):
  def refuse(task):
    raise ValueError('no such thing here\nand a second line')

  variants, skipped = steps.build({'bad': refuse, 'worse': refuse}, case, ONCE, jobs=2)
  assert variants == {}
  assert skipped == dict.fromkeys(('bad', 'worse'), 'ValueError: no such thing here')
  with pytest.raises(ValueError, match='no variant can run here'):
    steps.compare({'bad': refuse}, case, ONCE, 'note')


class Stub(steps.Variant):
  """A step that takes some seconds without a program."""

  def __init__(self, seconds, tracing=0.0, compiling=0.0):
    self.taken, self.made = seconds, steps.Program(None, tracing, compiling)

  def program(self, batch):
    return self.made

  def seconds(self, batch, dispatches=1):
    return self.taken

  def size(self, batch):
    return {'flops': 1.0, 'peak_bytes': 7.0}


def test_attention_is_compared_by_layout_and_what_is_refused_is_named(case):
  def maker(name):
    def make(task):
      if name == 'flash':
        raise ValueError('needs a GPU')
      return Stub({'xla': 4.0, 'cudnn': 3.0}[name])

    return make

  found = attention.compare(maker, ('xla', 'cudnn', 'flash'), {'full': case}, ONCE)
  assert found.rows == {
    'full, xla': {'seconds': 4.0, 'seconds_ratio': 1.0, 'peak_bytes': 7.0},
    'full, cudnn': {'seconds': 3.0, 'seconds_ratio': 0.75, 'peak_bytes': 7.0},
  }
  assert found.skipped == {'full, flash': 'ValueError: needs a GPU'}


def test_a_sweep_is_compared_by_the_step_and_by_the_clock(case):
  together = {'all': lambda task: Stub(2.0, tracing=3.0, compiling=100.0)}
  alone = lambda task: Stub(1.0, tracing=2.0, compiling=50.0)
  rows = sweeps.compare(together, alone, case, ONCE, members=4, steps=10).rows
  # One program of all: 100 + 3 + 10 x 2; four runs: 50 + 4 x (2 + 10 x 1).
  assert rows['all']['seconds_by_the_clock'] == 123 and rows['all']['seconds_ratio'] == 2
  assert rows['one run']['seconds_by_the_clock'] == 98
  assert rows['all']['step_gain'] == 2 and rows['all']['clock_gain'] == pytest.approx(98 / 123)
  assert rows['one run']['step_gain'] == rows['one run']['clock_gain'] == 1


@pytest.mark.slow
@pytest.mark.parametrize('members', [0, 2])
def test_a_round_makes_each_of_its_steps_and_compiles_once(case, members):
  make = lambda task: steps.Variant(configured(), task)
  if members:
    make = lambda task: steps.Members(configured(), task, members, shared=False)
  variants, _ = steps.build({'one': make}, case, ONCE)
  program = variants['one'].program(case.times(2))
  rounds = timing.Rounds(count=1, dispatches=3, steps_per_call=2)
  assert steps.times(variants, case, rounds)['one'] > 0
  assert variants['one'].program(case.times(2)) is program
  assert int(variants['one'].state.step) == 2 * 3 * 2  # A round that is not counted, and one.


def test_dispatches_share_one_wait():
  calls = []
  seconds = timing.seconds_of(lambda: calls.append(1) or jnp.zeros(()), 5)
  assert len(calls) == 5 and seconds > 0
