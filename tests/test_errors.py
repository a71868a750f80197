"""The sentences that errors share."""

import jax
import numpy as np
import pytest

from lora_jax import errors

KNOWN = ('full', 'lora', 'roberta-base', 'adapter_h')


@pytest.mark.parametrize(
  'name, guess',
  [
    ('lroa', "Did you mean 'lora'? "),
    ('RoBERTa_base', "Did you mean 'roberta-base'? "),
    ('adapterh', "Did you mean 'adapter_h'? "),
    ('zzz', ''),
    (None, ''),
  ],
)
def test_the_nearest_names_come_first_and_then_all(name, guess):
  assert errors.nearest(name, KNOWN) == f'{guess}Known: full, lora, roberta-base, adapter_h.'


def test_no_known_names_and_too_many():
  assert errors.nearest('x', []) == 'Known: none.'
  assert errors.nearest('x', map(str, range(50))).endswith('38, 39 and 10 more.')
  assert 'Did you mean' not in errors.nearest('lroa', KNOWN, cutoff=0.9)


def test_a_list_is_cut():
  assert errors.listed([]) == ''
  assert errors.listed(['a', 1]) == 'a, 1'
  assert errors.listed('abcde', limit=2) == 'a, b and 3 more'


def test_mismatches_name_each_kind_once():
  expected = {'a': (2, 3), 'b': (4,), 'c': ()}
  arrays = {name: np.zeros(shape) for name, shape in expected.items()}
  assert errors.mismatches(expected, arrays) == []
  del arrays['a']
  found = arrays | {'b': jax.ShapeDtypeStruct((5,), 'float32'), 'd': np.zeros(1)}
  assert errors.mismatches(expected, found) == [
    'missing a (2, 3)',
    'unexpected d (1,)',
    'misshapen b is (5,), expected (4,)',
  ]
  many = {f'x{i}': () for i in range(5)}
  assert errors.mismatches(many, {}, limit=2) == ['missing x0 (), x1 () and 3 more']
