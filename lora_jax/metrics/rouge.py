"""ROUGE-1, -2 and -L of summaries (Lin, 2004), by Google's `rouge-score`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_jax.extras import require

NAMES = {'rouge_1': 'rouge1', 'rouge_2': 'rouge2', 'rouge_lcs': 'rougeL'}


def rouge(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
  """F-measures in [0, 1], the best over the references of each segment, mean over segments.

  Words are lower-cased and stemmed by Porter's rules. The paper does not say whether its are.
  """
  require('rouge_score')
  from rouge_score import rouge_scorer  # Imports nltk, which only summaries need.

  scorer = rouge_scorer.RougeScorer(list(NAMES.values()), use_stemmer=True)
  found = [
    scorer.score_multi(list(texts), prediction)
    for prediction, texts in zip(predictions, references, strict=True)
  ]
  return {
    name: float(np.mean([scores[library_name].fmeasure for scores in found]))
    for name, library_name in NAMES.items()
  }
