"""The paper's names have names here, of things that there are."""

import re

import pytest

from lora_jax import methods
from lora_jax.data import glue
from lora_jax.models import presets
from lora_jax.paper import printed, translation


def test_every_model_and_method_of_the_print_has_a_name_here():
  for number, table in printed.TABLES.items():
    for row in table.rows:
      if 'params' in row:
        assert row['method'].rstrip('*†') in translation.METHODS, number
      if 'model' in row:
        assert row['model'] in translation.MODELS, number


def test_every_name_here_is_of_a_method_a_preset_or_a_task():
  for name in translation.METHODS.values():
    for part in name.split('+'):
      assert part in methods.METHODS, name
  assert {*translation.MODELS.values(), translation.GPT3} <= set(presets.PRESETS)
  assert set(translation.GLUE_TASKS.values()) <= set(glue.TASKS)


def test_targets_are_the_patterns_of_matrices():
  assert translation.targets('Wo') == ('.*/attention/output',)
  assert translation.targets('Wq,Wv') == ('.*/attention/(query|value)',)
  (every,) = translation.ALL_OF_ATTENTION
  assert re.fullmatch(every, 'encoder/layers_0/attention/output')
  assert not re.fullmatch(every, 'encoder/layers_0/mlp/output')
  with pytest.raises(KeyError):
    translation.targets('Wx')
