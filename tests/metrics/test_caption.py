"""ROUGE-L and CIDEr over tokens that are given, worked out by hand; no Java."""

import math

import pytest

from lora_jax.metrics import caption


def f_measure(precision, recall):
  return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


@pytest.mark.parametrize(
  'prediction, references, expected',
  [
    ('a b c', ['a b c'], 1),
    ('a b c', ['a c d e'], f_measure(2 / 3, 2 / 4)),
    ('c b a', ['a b c'], f_measure(1 / 3, 1 / 3)),
    # Precision is the best of the first, recall that of the second.
    ('a b c', ['a b x x x x', 'x c'], f_measure(2 / 3, 1 / 2)),
    ('', ['a b'], 0),
    ('x', ['a b'], 0),
  ],
)
def test_rouge_l_by_hand(prediction, references, expected):
  assert caption.rouge_l(([prediction], [references])) == pytest.approx(expected)
  halved = caption.rouge_l(([prediction, 'a'], [references, ['b']]))
  assert halved == pytest.approx(expected / 2)


def test_cider_by_hand():
  # Two segments that share nothing: all n-grams weigh the same. Of the four orders two exist.
  references = [['a b'], ['c d']]
  assert caption.cider((['a b', 'c d'], references)) == pytest.approx(10 * 2 / 4)
  # One word of two: cosine 1 / sqrt(2); one bigram short: the Gaussian of sigma 6.
  short = 10 / 4 / math.sqrt(2) * math.exp(-1 / (2 * 6**2))
  assert caption.cider((['a', 'c d'], references)) == pytest.approx((short + 5) / 2)
  assert caption.cider((['', 'c d'], references)) == pytest.approx(5 / 2)
  # The mean over references, of which one is met in full.
  assert caption.cider((['a b', 'c d'], [['a b', 'x y'], ['c d']])) == pytest.approx((2.5 + 5) / 2)


def test_cider_gives_nothing_for_what_every_segment_has():
  assert caption.cider((['a', 'a'], [['a'], ['a']])) == 0
