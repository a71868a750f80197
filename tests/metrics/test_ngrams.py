"""BLEU and NIST against values worked out by hand."""

import math

import pytest

from lora_jax.metrics import ngrams

MAT = 'the cat sat on the mat'


@pytest.mark.parametrize(
  'prediction, references, expected',
  [
    (MAT, [MAT], 1),
    (MAT, ['The CAT sat on the mat'], 1),
    # 6/6, 4/5, 3/4 and 2/3 of the n-grams; one word shorter than the reference.
    (MAT, ['the cat sat on the red mat'], math.exp(1 - 7 / 6) * 0.4**0.25),
    # `the` counts as often as one of the references has it, not as all have it together.
    (
      'the the the the cat sat',
      ['the cat sat on', 'on the cat sat'],
      (3 / 6 * 2 / 5 * 1 / 4 * 0) ** 0.25,
    ),
    ('the the the cat sat on', ['the cat sat on'], (4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25),
    # Lengths 5 and 7 are equally near to 6: the shorter counts, which costs nothing.
    ('a b c d e f', ['a b c d e', 'a b c d e f g'], 1),
    ('a b c d e f', ['a b c d e f g', 'a b c d e'], 1),
    ('a b c d e f', ['a b c d e f g'], math.exp(1 - 7 / 6)),
    # Shorter than four words, or nothing at all.
    ('a b c', ['a b c'], 0),
    ('', ['a b c d'], 0),
    # mteval takes punctuation for words, but not inside numbers.
    ('It costs 3.50, not more.', ['it costs 3.50 , not more .'], 1),
    ('a b c d - e', ['a b c d-e'], math.exp(1 - 6 / 4) * (4 / 6 * 2 / 5 * 1 / 4 * 0) ** 0.25),
  ],
)
def test_bleu_by_hand(prediction, references, expected):
  assert ngrams.bleu([prediction], [references]) == pytest.approx(expected, abs=1e-12)


def test_bleu_is_of_the_corpus():
  # An empty prediction costs length, and no precision: 4 words for 4 + 2.
  assert ngrams.bleu(['a b c d', ''], [['a b c d'], ['e f']]) == pytest.approx(math.exp(1 - 6 / 4))
  # So does a short one, which has no 4-grams of its own.
  assert ngrams.bleu(['a b c d', 'e f'], [['a b c d'], ['e f']]) == pytest.approx(1)


def test_segments_may_have_unequal_numbers_of_references():
  predictions = ['a b c d', 'e f g h']
  for references in ([['a b c d'], ['x', 'e f g h']], [['x', 'a b c d'], ['e f g h']]):
    assert ngrams.bleu(predictions, references) == pytest.approx(1)


def test_an_empty_reference_has_length_nought():
  long = 'a b c d e f g h i j k'
  assert ngrams.bleu(['a b c d'], [[long]]) == pytest.approx(math.exp(1 - 11 / 4))
  assert ngrams.bleu(['a b c d'], [[long, '']]) == pytest.approx(1)  # 0 is nearer to 4 than 11 is.


@pytest.mark.parametrize(
  'predictions, references, mteval, pymteval',
  [
    # Each word is one of two, 1 bit; after `a` comes `b` for certain, 0 bits.
    (['a b'], [['a b']], 1, 1),
    # Of four words `a` has 1 bit, `b` and `c` have 2; after `a` either of them, 1 bit.
    (['a b', 'a c'], [['a b'], ['a c']], 6 / 4 + 2 / 2, 6 / 4 + 2 / 2),
    # Two thirds of the length: half the score.
    (['a b'], [['a b c']], math.log2(3) / 2, math.log2(3) / 2),
    # One `a`, as many as a reference has; both have two.
    (['a a'], [['a b', 'a b']], 1 / 2, 1 / 2),
    # Longer than the reference: no penalty, but more to divide by.
    (['a b c c'], [['a b']], 2 / 4, 2 / 4),
    # 6 words in 3 references, times 2 segments: 4. Each segment by itself: 4 + 1 words.
    (
      ['a b c', 'a'],
      [['a b c d'], ['a', 'a']],
      (2 * 1 + 2 * math.log2(6)) / 4 + math.log2(3) / 2,
      ((2 * 1 + 2 * math.log2(6)) / 4 + math.log2(3) / 2)
      * math.exp(math.log(0.5) / math.log(1.5) ** 2 * math.log(4 / 5) ** 2),
    ),
    (['', ''], [['a'], ['b']], 0, 0),
    (['x y z'], [['a b c']], 0, 0),
  ],
)
def test_nist_by_hand(predictions, references, mteval, pymteval):
  found = ngrams.nist(predictions, references)
  assert found.mteval == pytest.approx(mteval, abs=1e-12)
  assert found.pymteval == pytest.approx(pymteval, abs=1e-12)
