"""A number without runs is answered in one sentence, an unknown one with those that exist."""

import pytest

from lora_jax.paper import printed
from lora_jax.reproduce import answers


def test_every_printed_table_has_runs_and_the_others_a_sentence():
  assert set(answers.TABLES) == set(printed.TABLES)
  for number in map(str, range(1, 19)):
    answer = answers.check('table', number)
    assert bool(answer) == (number not in answers.TABLES)
    assert not answer or answer.startswith(f'Table {number} ')
  assert answers.check('figure', '1') and not answers.check('figure', '2')


def test_an_unknown_number_is_refused_with_the_known_ones():
  with pytest.raises(ValueError, match=r'--table=33: the paper has no such table.*Known: 1, 2, 3'):
    answers.check('table', '33')
  with pytest.raises(ValueError, match='--figure=9'):
    answers.check('figure', '9')
