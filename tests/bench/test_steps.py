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


def configured(**fields):
  with glue.get_config('model=fresh,preset=small').unlocked() as config:
    fresh = dataclasses.asdict(timing.SHAPES['toy-roberta']) | {'num_layers': 1}
    config.model.update(fresh=fresh, hidden_dropout=0.0, attention_dropout=0.0, **fields)
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


def test_a_step_is_compiled_once_and_a_sweep_is_compared_by_the_clock(case):
  config = configured()
  made = {}

  def alone(task):
    made['one'] = steps.Variant(config, task)
    return made['one']

  together = {'two': lambda task: steps.Members(config, task, 2, shared=True)}
  found = sweeps.compare(together, alone, case, timing.Rounds(count=1, dispatches=3), 2, 10)
  assert int(made['one'].state.step) == 2 * 3  # A round that is not counted, and one that is.
  rows = found.rows
  for name, runs in (('two', 1), ('one run', 2)):
    row = rows[name]
    assert row['seconds_by_the_clock'] == pytest.approx(
      row['compiling'] + runs * (row['tracing'] + 10 * row['seconds'])
    )
  assert rows['one run']['step_gain'] == rows['one run']['clock_gain'] == 1
  assert rows['two']['step_gain'] == pytest.approx(
    2 * rows['one run']['seconds'] / rows['two']['seconds']
  )


def test_attention_is_compared_by_layout_and_what_is_refused_is_named(case):
  def maker(name):
    if name == 'flash':
      return lambda task: (_ for _ in ()).throw(ValueError('needs a GPU'))
    return lambda task: steps.Variant(configured(attention=name), task)

  found = attention.compare(maker, ('xla', 'flash'), {'full': case}, ONCE)
  assert list(found.rows) == ['full, xla'] and found.rows['full, xla']['seconds_ratio'] == 1
  assert found.skipped == {'full, flash': 'ValueError: needs a GPU'}


def test_dispatches_share_one_wait():
  calls = []
  seconds = timing.seconds_of(lambda: calls.append(1) or jnp.zeros(()), 5)
  assert len(calls) == 5 and seconds > 0
