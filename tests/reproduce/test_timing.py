"""The estimate grows with the work, and what was measured corrects it."""

import pytest

from configs import e2e, glue
from lora_jax.models import presets
from lora_jax.reproduce import timing
from lora_jax.reproduce.timing import Machine

CPU, GPU = Machine('cpu', 1, 'cpu'), Machine('gpu', 1, 'gpu')
GPT2 = presets.PRESETS['gpt2-medium'].config


def seconds(machine=CPU, trained=10_000, **fields):
  config = e2e.get_config('model=gpt2-medium,preset=small')
  config.update_from_flattened_dict({key.replace('__', '.'): x for key, x in fields.items()})
  return timing.computed(config, GPT2, trained, machine)


def test_it_grows_with_examples_epochs_and_trained_parameters():
  assert seconds() > seconds(data__limit=1000) > 0
  assert seconds(train__epochs=4) > 1.5 * seconds()
  assert seconds(trained=300_000_000) > 1.3 * seconds()
  assert seconds() > seconds(decode__final='')
  assert seconds(machine=GPU) < seconds() / 20
  assert seconds(machine=Machine('gpu', 8, 'gpu')) < seconds(machine=GPU)
  assert seconds(model__dtype='bfloat16') < 0.6 * seconds()


def test_lora_on_e2e_takes_about_what_it_does():
  """SmolLM2's shape, an epoch in bfloat16 on two cores: 30 to 55 minutes."""
  config = e2e.get_config('model=m/smollm2,method=lora')
  config.update_from_flattened_dict({'model.dtype': 'bfloat16', 'train.epochs': 1})
  config.decode.final = ''
  shape = presets.PRESETS['smollm2-135m'].config
  assert 25 < timing.computed(config, shape, 230_400, CPU) / 60 < 110


def test_an_unknown_task_has_no_estimate():
  config = glue.get_config('task=rte,tiny=true')
  config.task = 'own'
  bert = presets.PRESETS['bert-base-uncased'].config
  assert timing.computed(config, bert, 1, CPU) is None
  assert timing.corrected('x', None, {}).seconds is None


def test_what_was_measured_corrects_the_others():
  finished = {'a': [(100.0, 50.0), (140.0, 50.0)], 'b': [(90.0, None)]}
  assert timing.corrected('a', 50.0, finished) == timing.Estimate(120.0, 'measured')
  found = timing.corrected('c', 10.0, finished)
  assert (
    found.seconds == pytest.approx(10 * (2.0 * 2.8) ** 0.5) and 'measured of others' in found.source
  )
  assert timing.corrected('c', 10.0, {}) == timing.Estimate(10.0, 'computed')


def test_an_interrupted_run_has_less_left():
  config = e2e.get_config('tiny=true')  # 64 examples, twice, in batches of 8: 16 steps.
  whole = timing.Estimate(110.0, 'measured')
  assert timing.remaining(whole, config, 0) == whole
  assert timing.remaining(whole, config, 12).seconds == timing.START + (110 - timing.START) / 4
  assert timing.remaining(whole, config, 99).seconds == timing.START


def test_seeds_and_rates_have_one_shape():
  one, other = (e2e.get_config('tiny=true') for _ in range(2))
  with other.unlocked():
    other.seed, other.optim.lr = 3, 0.5
  assert timing.shape_of(one) == timing.shape_of(other)
  other.data.limit = 3
  assert timing.shape_of(one) != timing.shape_of(other)


def test_the_tasks_of_the_tables_have_sizes():
  assert {*glue.TASKS, 'e2e', 'webnlg', 'dart', 'wikisql', 'samsum', 'mnli_text'} == set(
    timing.DATA
  )
