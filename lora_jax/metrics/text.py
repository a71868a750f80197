"""Scores of generated texts as in the paper's tables: `score(scoring, predictions, references)`.

The metrics of E2E, WebNLG and DART are those that the paper's own scorers compute (e2e-metrics and
the challenge's mteval; GenerationEval). They agree with published scores to the last published
digit (tests/metrics/test_published.py). Texts are scored as they are given: predictions in the
spaced form of the authors' files need references in that form.
"""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from lora_jax.errors import nearest
from lora_jax.extras import require
from lora_jax.metrics import rouge, text_metrics

# The metrics of each scoring, in the order of the report.
METRICS = {
  'e2e': ('bleu', 'nist', 'nist_pymteval', 'meteor', 'rouge_l', 'cider'),
  'webnlg': ('bleu', 'bleu_filled', 'meteor', 'ter'),
  'dart': ('bleu', 'bleu_filled', 'meteor', 'ter'),
  'wikisql': ('logical_form', 'queries'),
  'samsum': ('rouge_1', 'rouge_2', 'rouge_lcs'),
  'mnli_text': ('accuracy',),
  'synthetic': ('bleu',),
  'own': ('bleu', 'rouge_1', 'rouge_2', 'rouge_lcs', 'accuracy'),
}
SCORINGS = tuple(METRICS)

# The authors write this many reference files for WebNLG and DART, the missing ones filled with the
# first reference, which changes no score. Further references are not used.
MAX_REFERENCES = {'webnlg': 6, 'dart': 6}


class Report(NamedTuple):
  """Scores of a set of predictions, and what is needed to compare them with other scores.

  BLEU, METEOR, ROUGE, accuracies and shares are in [0, 1] (the paper prints BLEU, and METEOR and
  ROUGE-L of E2E, times 100). TER is at least 0, and lower is better. NIST is unbounded, CIDEr is in
  [0, 10].

  Attributes:
    scores: by metric.
    unavailable: for each metric that was not computed, the reason, and how to get it.
    settings: how each metric was computed, and how many references were left out or empty.
    versions: of the libraries that computed the metrics, and of Java.
    segments: the number of predictions.
    references: the number of references that were scored against, empty ones not counted.
  """

  scores: dict[str, float]
  unavailable: dict[str, str]
  settings: dict[str, str | int]
  versions: dict[str, str]
  segments: int
  references: int


def score(
  scoring: str,
  predictions: Sequence[str],
  references: Sequence[Sequence[str]],
  metrics: Sequence[str] = (),
) -> Report:
  """Scores predictions against the references of each.

  E2E: BLEU, NIST in both conventions, METEOR, ROUGE-L, CIDEr. WebNLG and DART: BLEU, METEOR, TER
  of lower-cased text, split at every non-word character, against the first six references.
  WikiSQL: accuracy of the logical form. SAMSum: ROUGE-1, -2, -L. MNLI as text: accuracy. A user's
  own: BLEU, ROUGE, and the share of texts that are the reference.

  If Java is missing or fails, the metrics that need it are left out and listed in `unavailable`.

  Args:
    scoring: one of `SCORINGS`.
    predictions: [n] texts. An empty one has no n-grams: it shortens BLEU's and NIST's length;
      METEOR, ROUGE-L and CIDEr count 0 for it, TER counts 1.
    references: [n] lists. Empty texts beside others are ignored, except by the BLEU of WebNLG and
      DART: multi-bleu treats a missing line of a reference file as a reference of length 0, which
      softens the brevity penalty (48.56 instead of 47.60 on DART's published output). `bleu` does
      so too, and `bleu_filled` is then the score without them, which is what the paper reports.
    metrics: the metrics to compute; empty for all of the scoring's.

  Raises:
    ValueError: for an unknown scoring or metric, unequal counts, no segments, or a segment without
      a reference.
    FloatingPointError: for a score that is not finite.
  """
  names = _select(scoring, metrics)
  predictions, written = list(predictions), [list(texts) for texts in references]
  _check(scoring, predictions, written)
  limit = MAX_REFERENCES.get(scoring)
  left_out = sum(len(texts[limit:]) for texts in written) if limit else 0
  written = [texts[:limit] for texts in written]
  if limit:
    predictions = [split_words(text) for text in predictions]
    written = [[split_words(text) for text in texts] for texts in written]
  filled = [[text for text in texts if text.strip()] for texts in written]
  missing = sum(map(len, written)) - sum(map(len, filled))
  if not metrics and not missing:
    names = [name for name in names if name != 'bleu_filled']

  scores, unavailable, java_version = text_metrics.compute(
    scoring, names, predictions, written if limit else filled, filled
  )
  if lost := [name for name, value in scores.items() if not math.isfinite(value)]:
    raise FloatingPointError(f'{scoring}: {lost[0]} is {scores[lost[0]]}, not a score')
  settings: dict[str, str | int] = {name: text_metrics.ABOUT[name].setting for name in names}
  if 'meteor' in names and not limit:
    settings['meteor'] = f'{text_metrics.ABOUT["meteor"].setting}, {text_metrics.CAPTION}'
  if scoring == text_metrics.ANY_SCRIPT:
    settings |= {name: f'{settings[name]}, of any script' for name in rouge.NAMES if name in names}
  if limit:
    settings['text'] = 'lower-cased, split at every non-word character'
    settings['max_references'] = limit
    settings['references_left_out'] = left_out
  if missing:
    settings['empty_references'] = missing
  libraries = dict.fromkeys(
    text_metrics.ABOUT[name].library for name in text_metrics.ABOUT if name in names
  )
  versions = {name: importlib.metadata.version(name) for name in libraries if name}
  if java_version:
    versions['java'] = java_version
  return Report(
    scores={name: scores[name] for name in names if name in scores},
    unavailable={name: unavailable[name] for name in names if name in unavailable},
    settings=settings,
    versions=versions,
    segments=len(predictions),
    references=sum(map(len, filled)),
  )


def require_libraries(scoring: str) -> None:
  """Raises `MissingExtra` if a library of a scoring's metrics is missing: before texts are made."""
  libraries = (text_metrics.ABOUT[name].library for name in METRICS[scoring])
  require(*sorted({name.replace('-', '_') for name in libraries if name}))


def split_words(text: str) -> str:
  """The text in lower case, with every character that is not part of a word as its own word."""
  return ' '.join(re.sub(r'(\W)', r' \1 ', text.lower()).split())


def _select(scoring: str, metrics: Sequence[str]) -> list[str]:
  if scoring not in SCORINGS:
    raise ValueError(f'unknown scoring {scoring!r}. {nearest(scoring, SCORINGS)}')
  known = METRICS[scoring]
  if unknown := [name for name in metrics if name not in known]:
    raise ValueError(f'{scoring} has no metric {unknown[0]!r}. {nearest(unknown[0], known)}')
  return [name for name in known if not metrics or name in metrics]


def _check(scoring: str, predictions: list[str], references: list[list[str]]) -> None:
  if len(predictions) != len(references) or not predictions:
    raise ValueError(
      'expected one prediction for each list of references; found '
      f'{len(predictions)} predictions and {len(references)} lists of references'
    )
  for i, texts in enumerate(references):
    if not any(text.strip() for text in texts[: MAX_REFERENCES.get(scoring)]):
      raise ValueError(
        f'segment {i + 1} of {len(references)} has no reference: {list(texts)!r}. Its prediction: '
        f'{predictions[i][:80]!r}'
      )
