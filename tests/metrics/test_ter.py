"""TER against values worked out by hand, and the bounds it lies in."""

import random

import pytest

from lora_jax.metrics import ter

# The example of Snover et al. (2006): one shift, two substitutions and an insertion; 13 words.
REFERENCE = 'SAUDI ARABIA denied THIS WEEK information published in the AMERICAN new york times'
PREDICTION = 'THIS WEEK THE SAUDIS denied information published in the new york times'


@pytest.mark.parametrize(
  'prediction, reference, expected',
  [
    (PREDICTION, REFERENCE, 4 / 13),
    ('a b c', 'a b c', 0),
    ('', 'a b c', 1),
    ('a x c', 'a b c', 1 / 3),
    ('a c', 'a b c', 1 / 3),
    ('a b x c', 'a b c', 1 / 3),
    ('b c a', 'a b c', 1 / 3),  # One shift, where edits alone need two.
    ('c d a b', 'a b c d', 1 / 4),  # A run of words shifts at once.
    ('b a d c', 'a b c d', 2 / 4),
    ('x y z w', 'a', 4),  # More than one error per word.
    ('a b', 'b a', 1 / 2),
  ],
)
def test_by_hand(prediction, reference, expected):
  assert ter.ter([prediction], [[reference]]) == pytest.approx(expected)


def test_least_over_references_and_mean_over_segments():
  references = [['a b c d', 'a b x'], ['d'], ['e f']]
  assert ter.ter(['a b c', 'd', ''], references) == pytest.approx((1 / 4 + 0 + 1) / 3)


def test_shifts_never_cost_more_than_edits():
  generator = random.Random(0)
  draw = lambda: [generator.choice('abcde') for _ in range(generator.randint(1, 9))]
  for _ in range(300):
    prediction, reference = draw(), draw()
    rate = ter.error_rate(prediction, reference)
    assert 0 <= rate <= _edits(prediction, reference) / len(reference)
    # What is missing or too many cannot be shifted away.
    assert rate >= abs(len(prediction) - len(reference)) / len(reference)
    assert (rate == 0) == (prediction == reference)


def test_a_reference_without_words_is_refused():
  with pytest.raises(ValueError, match='segment 2: a reference without words'):
    ter.ter(['a', 'b'], [['a'], ['b', ' ']])


def _edits(left, right):
  row = list(range(len(right) + 1))
  for i, word in enumerate(left, start=1):
    above, row = row, [i]
    for j, other in enumerate(right, start=1):
      row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (word != other)))
  return row[-1]
