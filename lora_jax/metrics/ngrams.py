"""BLEU and NIST over a corpus, each prediction with any number of references.

BLEU is sacrebleu's, which agrees with mteval-13a and multi-bleu. No maintained library computes
NIST as the E2E challenge did, so this module does, on sacrebleu's tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, cast

from lora_jax.extras import require

# Two thirds of the references' words halve the score (Doddington 2002).
_BETA = math.log(0.5) / math.log(1.5) ** 2


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
  """BLEU-4 in [0, 1]: mteval-13a tokens, lower-cased, no smoothing.

  The brevity penalty uses the length of the closest reference, the shorter on ties. A reference
  without words counts as one of length 0, as in multi-bleu. The score is 0 if there is no match, or
  no n-gram, of some order.
  """
  require('sacrebleu')
  from sacrebleu.metrics import BLEU

  width = max(map(len, references), default=0)
  # One stream for each place in the lists; None if a segment has no such reference.
  # (sacrebleu's annotation does not allow None; its code does.)
  streams = [[r[k] if k < len(r) else None for r in references] for k in range(width)]
  # force: no warning about text that is already tokenized, as the authors' E2E set is.
  metric = BLEU(lowercase=True, tokenize='13a', smooth_method='none', force=True)
  return min(
    metric.corpus_score(list(predictions), cast(list[Sequence[str]], streams)).score / 100, 1.0
  )  # Not 1 + 4e-16.


class Nist(NamedTuple):
  """NIST by two conventions, which differ in the length of references that the penalty uses.

  Attributes:
    mteval: all words of references / all references, times the number of segments.
    pymteval: the mean length of each segment's references, summed.
  """

  mteval: float
  pymteval: float


def nist(predictions: Sequence[str], references: Sequence[Sequence[str]], order: int = 5) -> Nist:
  """Corpus NIST-n (Doddington 2002), unbounded above: mteval-13a tokens, lower-cased.

  Information is counted over the references' n-grams. The two conventions agree if all segments
  have equally many references; the challenge uses `mteval`.
  """
  require('sacrebleu')
  from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

  tokenizer = Tokenizer13a()
  words = lambda text: tokenizer(text.lower()).split()
  predicted = [words(text) for text in predictions]
  wanted = [[words(text) for text in texts] for texts in references]
  length = sum(map(len, predicted))
  total = sum(len(text) for texts in wanted for text in texts)
  if not length or not total:
    return Nist(0.0, 0.0)

  seen: Counter[tuple[str, ...]] = Counter({(): total})
  for n in range(1, order + 1):
    for texts in wanted:
      for text in texts:
        seen.update(_ngrams(text, n))
  score = 0.0
  for n in range(1, order + 1):
    gain = possible = 0.0
    for text, texts in zip(predicted, wanted):
      most: Counter[tuple[str, ...]] = Counter()
      for reference in texts:
        most |= _ngrams(reference, n)
      for ngram, count in (_ngrams(text, n) & most).items():
        gain += count * math.log2(seen[ngram[:-1]] / seen[ngram])
      possible += max(len(text) - n + 1, 0)
    score += gain / possible if possible else 0.0

  mteval = total / sum(map(len, wanted)) * len(wanted)
  pymteval = sum(sum(map(len, texts)) / len(texts) for texts in wanted)
  penalty = lambda average: math.exp(_BETA * math.log(min(1.0, length / average)) ** 2)
  return Nist(score * penalty(mteval), score * penalty(pymteval))


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
  return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
