"""Configs to plan with: what is given is changed, all else stays."""

import pytest

from configs import glue, gpt3
from lora_jax import cost
from lora_jax.cost import configure, practical_claims
from lora_jax.paper import claims


def test_sizes_that_are_not_given_stay_and_layers_are_scanned():
  config = gpt3.get_config('method=lora,tiny=true')
  same = configure.with_sizes(config, as_configured=True)
  assert same.to_dict() == config.to_dict()
  found = configure.with_sizes(config, batch_size=6, length=48, dtype='bfloat16', examples=99)
  assert (found.train.batch_size, found.data.max_length, found.data.limit) == (6, 48, 99)
  assert found.model.dtype == found.model.param_dtype == 'bfloat16'
  assert found.model.scan and found.model.remat == 'full'
  encoder = configure.with_sizes(glue.get_config('model=fresh,preset=small,method=full'))
  assert encoder.model.scan and encoder.model.remat == 'none'


def test_more_examples_than_a_task_has_are_refused():
  """The plan had the hours of all that it has, as if these had been counted."""
  config = glue.get_config('task=rte,model=fresh,preset=small,method=lora')
  with pytest.raises(ValueError, match='examples=100000: rte has 2490 for training'):
    configure.with_sizes(config, examples=100_000)
  assert configure.with_sizes(config, examples=2490).data.limit == 2490
  with config.unlocked():
    config.task = 'own/reviews'
  assert configure.with_sizes(config, examples=100_000).data.limit == 100_000


def test_layers_that_are_told_apart_are_planned_looped():
  """Of a scanned model the job is refused, and the refusal asks for what was configured."""
  config = glue.get_config('model=fresh,preset=small,method=top_layers,tiny=true')
  assert config.model.scan is None
  found = configure.with_sizes(config)
  assert found.model.scan is False
  assert cost.abstract_job(found).summary.trainable > 0


def test_the_tokens_of_a_prefix_count_among_the_positions_of_the_claims():
  lengths = {}
  for name, sizes in claims.METHODS.items():
    config = gpt3.get_config(f'task=samsum,model=gpt3-175b,method={name.split()[0]}')
    found = configure.for_claims(config, sizes)
    lengths[name] = practical_claims.LENGTH - found.data.max_length
    assert found.model.dtype == 'bfloat16' and found.model.scan
  expected = {
    name: sizes.get('prefix', 0) + sizes.get('infix', 0) for name, sizes in claims.METHODS.items()
  }
  assert lengths == expected and max(lengths.values()) > 0
