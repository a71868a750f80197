"""Texts of any lengths and adapters come back in their order, from few compiled shapes."""

import numpy as np
import pytest

from lora_jax import serving
from tests.serving.toys import NAMES, bank_of


def test_texts_of_any_lengths_come_back_in_their_order():
  bank = bank_of('bert', True)
  random = np.random.default_rng(5)
  ids = [random.integers(0, 50, n).astype(np.int32) for n in (3, 32, 9, 17, 5, 1, 20, 4, 2, 8, 16)]
  types = [np.zeros(len(x), np.int32) for x in ids]
  names = [NAMES[i % len(NAMES)] for i in range(len(ids))]
  before = bank.compilations
  found = serving.respond(bank, names, ids, types, rows=8)
  assert found.shape == (11, 3)
  assert bank.compilations - before == 2  # 8 rows of 32 and, for three, 8 of 16.
  again = serving.respond(bank, names[::-1], ids[::-1], types[::-1], rows=8)
  np.testing.assert_allclose(again[::-1], found, atol=1e-5)
  few = serving.respond(bank, names[:1], ids[:1], types[:1], rows=64)  # An eighth: 8 of 16.
  np.testing.assert_allclose(few[0], found[0], atol=1e-5)
  assert bank.compilations - before == 2
  assert serving.respond(bank, [], []).shape == (0, 3)
  for bad, message in (([ids[0][:0]], 'text 0 has 0 tokens'), ([np.arange(33)], '33 tokens')):
    with pytest.raises(ValueError, match=message):
      serving.respond(bank, ['rs'], bad)
  with pytest.raises(ValueError, match='2 names of adapters, but 1 texts'):
    serving.respond(bank, ['rs', 'rs'], ids[:1])
