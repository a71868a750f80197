"""ROUGE-L and CIDEr as the E2E challenge computes them: by pycocoevalcap, over PTB tokens."""

from __future__ import annotations

from collections.abc import Sequence

from lora_jax.extras import require

Tokens = tuple[Sequence[str], Sequence[Sequence[str]]]  # predictions, references of each


def rouge_l(tokens: Tokens) -> float:
  """ROUGE-L in [0, 1], the mean over segments; beta 1.2.

  A segment's precision and recall are its best ones over its references, each by itself.
  """
  require('pycocoevalcap')
  from pycocoevalcap.rouge.rouge import Rouge

  return float(Rouge().compute_score(*_by_segment(tokens))[0])


def cider(tokens: Tokens) -> float:
  """CIDEr (4-grams, sigma 6) in [0, 10], the mean over segments.

  An n-gram weighs more, the fewer segments have it in their references, so the score of a single
  segment is 0.
  """
  require('pycocoevalcap')
  from pycocoevalcap.cider.cider import Cider

  return float(Cider().compute_score(*_by_segment(tokens))[0])


def _by_segment(tokens: Tokens) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
  predictions, references = tokens
  wanted = {i: list(texts) for i, texts in enumerate(references)}
  return wanted, {i: [text] for i, text in enumerate(predictions)}
