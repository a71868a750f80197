"""Scores of generated texts as the paper's tables have them: `score(scoring, predictions, ...)`.

The metrics of E2E, WebNLG and DART are those that the paper's own scorers compute (e2e-metrics and
the challenge's mteval; GenerationEval), and agree with published scores to the last digit that was
published (tests/metrics/test_published.py). Texts are scored as they are given: predictions in
the spaced form of the authors' files need references in that form.
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lora_jax.metrics import caption, java, ngrams, rouge, sql, ter

SCORINGS = ('e2e', 'webnlg', 'dart', 'wikisql', 'samsum', 'mnli_text', 'synthetic')

# What is computed for each, in this order. 'bleu_filled': only where a reference is empty.
METRICS = {
  'e2e': ('bleu', 'nist', 'nist_pymteval', 'meteor', 'rouge_l', 'cider'),
  'webnlg': ('bleu', 'bleu_filled', 'meteor', 'ter'),
  'dart': ('bleu', 'bleu_filled', 'meteor', 'ter'),
  'wikisql': ('logical_form', 'queries'),
  'samsum': ('rouge_1', 'rouge_2', 'rouge_lcs'),
  'mnli_text': ('accuracy',),
  'synthetic': ('bleu',),
}

# The authors write this many reference files for WebNLG and DART, the missing ones filled with the
# first reference, which changes no score. Further references are not looked at.
MAX_REFERENCES = {'webnlg': 6, 'dart': 6}

_LIBRARIES = {
  'sacrebleu': {'bleu', 'bleu_filled', 'nist', 'nist_pymteval'},
  'pycocoevalcap': {'meteor', 'rouge_l', 'cider'},
  'rapidfuzz': {'ter'},
  'rouge-score': set(rouge.NAMES),
}
_NEED_JAVA = {'meteor', 'rouge_l', 'cider'}
_MTEVAL = 'mteval-13a tokens, lower-cased'
_CAPTION = 'PTB tokens, lower-cased, without punctuation'
_SETTINGS = {
  'bleu': f'4-grams, {_MTEVAL}, closest reference length (the shorter on ties), no smoothing',
  'bleu_filled': 'bleu without empty references: the authors put the first in their place',
  'nist': f'5-grams, {_MTEVAL}, average length: reference words / references x segments (mteval)',
  'nist_pymteval': 'nist, average length: the mean of each segment, summed (pymteval)',
  'meteor': 'METEOR 1.5 -l en -norm',
  'rouge_l': f'{_CAPTION}, beta 1.2',
  'cider': f'{_CAPTION}, 4-grams, sigma 6',
  'ter': "pyter's shifts, least over references, mean over segments",
  'logical_form': 'column, aggregation and set of conditions equal, values in lower case',
  'queries': 'share of predictions that are queries at all',
  **dict.fromkeys(rouge.NAMES, 'F-measure, best over references, words lower-cased and stemmed'),
  'accuracy': 'label names, in lower case',
}


class Report(NamedTuple):
  """Scores of a set of predictions, and what is needed to compare them with others'.

  BLEU, METEOR, ROUGE-L are in [0, 1] (the paper prints BLEU, and METEOR and ROUGE-L of E2E, times
  100), so are ROUGE-1, -2, accuracies and shares; TER is at least 0 and lower is better, NIST and
  CIDEr are unbounded and in [0, 10].
  """

  scores: dict[str, float]
  unavailable: dict[str, str]  # metric -> why it was not computed, and how to get it
  settings: dict[str, Any]
  versions: dict[str, str]
  segments: int
  references: int  # those that were scored against, empty ones not counted


def score(
  scoring: str,
  predictions: Sequence[str],
  references: Sequence[Sequence[str]],
  metrics: Sequence[str] = (),
) -> Report:
  """Scores predictions against the references of each.

  E2E: BLEU, NIST in both conventions, METEOR, ROUGE-L, CIDEr. WebNLG and DART: BLEU, METEOR, TER
  of lower-cased text, split at every non-word character, against the first six references.
  WikiSQL: accuracy of the logical form. SAMSum: ROUGE-1, -2, -L. MNLI as text: accuracy.

  What Java is needed for is left out where it is missing or fails, and named in `unavailable`.

  Args:
    scoring: one of `SCORINGS`.
    predictions: [n] texts. An empty one has no n-grams: BLEU and NIST lose its length, METEOR,
      ROUGE-L and CIDEr count 0 for it, TER 1.
    references: [n] lists. Empty texts beside others are no references, except to the BLEU of WebNLG
      and DART: multi-bleu takes a missing line of a reference file for a reference of length 0,
      which softens the brevity penalty (48.56 instead of 47.60 on DART's published output). `bleu`
      does so too, and `bleu_filled` is then the score without them, as the paper's is.
    metrics: only these; all of the scoring's if empty.

  Raises:
    ValueError: for an unknown scoring or metric, unequal counts, no segments, or a segment without
      a reference.
  """
  names = _chosen(scoring, metrics)
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

  scores, unavailable, java_version = _compute(
    scoring, names, predictions, written if limit else filled, filled
  )
  settings: dict[str, Any] = {name: _SETTINGS[name] for name in names}
  if 'meteor' in names and not limit:
    settings['meteor'] += f', {_CAPTION}'
  if limit:
    settings['text'] = 'lower-cased, split at every non-word character'
    settings['max_references'] = limit
    settings['references_left_out'] = left_out
  if missing:
    settings['empty_references'] = missing
  versions = {
    library: importlib.metadata.version(library)
    for library, users in _LIBRARIES.items()
    if users.intersection(names)
  }
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


def split_words(text: str) -> str:
  """Lower-cased, one space between words, every other character a word of its own."""
  return ' '.join(re.sub(r'(\W)', r' \1 ', text.lower()).split())


def _compute(
  scoring: str,
  names: Sequence[str],
  predictions: list[str],
  written: list[list[str]],
  filled: list[list[str]],
) -> tuple[dict[str, float], dict[str, str], str]:
  """Scores, what is unavailable and why, and the version of Java. Java runs beside the rest."""
  with concurrent.futures.ThreadPoolExecutor() as pool:
    jobs: dict[str, Callable[[], float]] = {}
    tokens = None
    version = pool.submit(java.version) if _NEED_JAVA.intersection(names) else None
    if scoring == 'e2e' and version:
      tokens = pool.submit(_caption_tokens, predictions, filled)
    if 'meteor' in names:
      texts = tokens.result if tokens else lambda: (predictions, filled)
      jobs['meteor'] = pool.submit(java.meteor, texts).result
    values: dict[str, float] = {}  # Of metrics that are computed several at a time.
    if any(name.startswith('nist') for name in names):
      nist = ngrams.nist(predictions, filled)
      values |= {'nist': nist.mteval, 'nist_pymteval': nist.pymteval}
    if scoring == 'wikisql':
      values |= zip(METRICS[scoring], sql.logical_form(predictions, filled))
    if scoring == 'samsum':
      values |= rouge.rouge(predictions, filled)
    jobs |= {name: functools.partial(values.get, name) for name in values}
    jobs['accuracy'] = lambda: _accuracy(predictions, filled)
    jobs['bleu'] = lambda: ngrams.bleu(predictions, written)
    jobs['bleu_filled'] = lambda: ngrams.bleu(predictions, filled)
    jobs['ter'] = lambda: ter.ter(predictions, filled)
    jobs['rouge_l'] = lambda: caption.rouge_l(tokens.result())
    jobs['cider'] = lambda: caption.cider(tokens.result())

    scores, unavailable = {}, {}
    for name in sorted(names, key=_waiting):
      try:
        scores[name] = jobs[name]()
      except java.Unavailable as error:
        unavailable[name] = str(error)
    try:
      return scores, unavailable, version.result() if version else ''
    except java.Unavailable:
      return scores, unavailable, ''


def _accuracy(predictions: list[str], references: list[list[str]]) -> float:
  """Share of references that are the prediction; one that stands twice counts twice."""
  plain = lambda text: text.strip().lower()
  pairs = [(plain(p), plain(r)) for p, texts in zip(predictions, references) for r in texts]
  return sum(p == r for p, r in pairs) / len(pairs)


def _waiting(name: str) -> int:
  """Sorts metrics by how long Java works before they can be had: METEOR loads its tables."""
  return 2 if name == 'meteor' else int(name in _NEED_JAVA)


def _caption_tokens(predictions: list[str], references: list[list[str]]) -> caption.Tokens:
  """PTB tokens of all texts, in one start of Java."""
  flat = iter(java.ptb_tokens([*predictions, *(text for texts in references for text in texts)]))
  predicted = [next(flat) for _ in predictions]
  return predicted, [[next(flat) for _ in texts] for texts in references]


def _chosen(scoring: str, metrics: Sequence[str]) -> list[str]:
  if scoring not in SCORINGS:
    raise ValueError(f'Unknown scoring {scoring!r}. Known: {", ".join(SCORINGS)}.')
  known = METRICS[scoring]
  if unknown := [name for name in metrics if name not in known]:
    raise ValueError(f'{scoring} has no metric {unknown[0]!r}. It has: {", ".join(known)}.')
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
