"""What the JSON of an analysis says of its runs."""

import numpy as np
import pytest

from lora_jax.analysis import description
from lora_jax.analysis.factors import Update

RUN = {'run': 'r1', 'model': '/models/gpt2'}


def test_a_description_counts_the_factors():
  a, b = np.zeros((8, 2)), np.zeros((2, 4))
  updates = [Update(f'layers_{i}/query', i, 'query', a, b, 0.5) for i in (0, 1)]
  found = description.describe(updates, {'layers_0': {'a': a}}, {'name': 'lora'})
  assert found == {
    'method': {'name': 'lora'},
    'ranks': [2],
    'scales': [0.5],
    'trained': ['query'],
    'parameters': 2 * (16 + 8),
    'leaves': 1,
  }


def test_the_folder_of_a_base_does_not_matter_but_its_name_and_seed_do():
  description.check_bases(RUN, RUN | {'model': 'gpt2'})
  with pytest.raises(ValueError, match='r1 on gpt2 and r1 on gpt2-medium'):
    description.check_bases(RUN, RUN | {'model': 'gpt2-medium'})
  fresh = RUN | {'model': 'fresh', 'fresh': {'seed': 0}}
  with pytest.raises(ValueError, match=r"fresh, \{'seed': 1\}"):
    description.check_bases(fresh, fresh | {'fresh': {'seed': 1}})


def test_floats_keep_five_digits():
  value = {'a': [1 / 3, 2, 'x'], 'b': 123456.7}
  assert description.round_floats(value) == {'a': [0.33333, 2, 'x'], 'b': 123460.0}
