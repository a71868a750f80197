"""ROUGE-1, -2 and -L of summaries (Lin, 2004), by Google's `rouge-score`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from lora_jax.extras import require

NAMES = {'rouge_1': 'rouge1', 'rouge_2': 'rouge2', 'rouge_lcs': 'rougeL'}


def rouge(
  predictions: Sequence[str], references: Sequence[Sequence[str]], *, any_script: bool = False
) -> dict[str, float]:
  """F-measures in [0, 1], the best over the references of each segment, mean over segments.

  Words are lower-cased and stemmed by Porter's rules. The paper does not say whether its are.

  Args:
    predictions: [n] texts.
    references: [n] lists of texts.
    any_script: whether words have letters of any script. Those of `rouge-score` have a to z alone:
      `Mädchen` is two words, and a text in Cyrillic has none, so that it scores 0 against itself.
  """
  require('rouge_score')
  from rouge_score import rouge_scorer, tokenizers  # Imports nltk, which only summaries need.

  plain = tokenizers.DefaultTokenizer(use_stemmer=True)

  class AnyScript(tokenizers.Tokenizer):
    """The words of the library's own tokenizer, and those that have other letters as they are."""

    def tokenize(self, text: str) -> list[str]:
      found = words(text)
      return [
        stem for word in found for stem in (plain.tokenize(word) if word.isascii() else [word])
      ]

  scorer = rouge_scorer.RougeScorer(
    list(NAMES.values()), use_stemmer=True, tokenizer=AnyScript() if any_script else plain
  )
  found = [
    scorer.score_multi(list(texts), prediction)
    for prediction, texts in zip(predictions, references, strict=True)
  ]
  return {
    name: float(np.mean([scores[library_name].fmeasure for scores in found]))
    for name, library_name in NAMES.items()
  }


def words(text: str) -> list[str]:
  """The lower-cased runs of letters, digits and the marks on them, in any script."""
  is_part = lambda character: unicodedata.category(character)[0] in 'LNM'
  return ''.join(x if is_part(x) else ' ' for x in text.lower()).split()
