"""What the metrics of texts are, and their computation, with Java beside the rest: `compute`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from lora_jax.metrics import caption, java, ngrams, rouge, sql, ter

_MTEVAL = 'mteval-13a tokens, lower-cased'
ANY_SCRIPT = 'own'  # Texts of a user are in any language; those of SAMSum are scored as published.
CAPTION = 'PTB tokens, lower-cased, without punctuation'


class Metric(NamedTuple):
  """What a report says of a metric, the library that computes it, and whether it needs Java."""

  setting: str
  library: str = ''
  java: bool = False


_ROUGE = Metric('F-measure, best over references, words lower-cased and stemmed', 'rouge-score')
ABOUT = {
  'bleu': Metric(
    f'4-grams, {_MTEVAL}, closest reference length (the shorter on ties), no smoothing', 'sacrebleu'
  ),
  # Computed by default only if a reference is empty.
  'bleu_filled': Metric(
    'bleu without empty references: the authors put the first in their place', 'sacrebleu'
  ),
  'nist': Metric(
    f'5-grams, {_MTEVAL}, average length: reference words / references x segments (mteval)',
    'sacrebleu',
  ),
  'nist_pymteval': Metric(
    'nist, average length: the mean of each segment, summed (pymteval)', 'sacrebleu'
  ),
  'meteor': Metric('METEOR 1.5 -l en -norm', 'pycocoevalcap', java=True),
  'rouge_l': Metric(f'{CAPTION}, beta 1.2', 'pycocoevalcap', java=True),
  'cider': Metric(f'{CAPTION}, 4-grams, sigma 6', 'pycocoevalcap', java=True),
  'ter': Metric("pyter's shifts, least over references, mean over segments", 'rapidfuzz'),
  'logical_form': Metric('column, aggregation and set of conditions equal, values in lower case'),
  'queries': Metric('share of predictions that are queries at all'),
  **dict.fromkeys(rouge.NAMES, _ROUGE),
  'accuracy': Metric('equal to the reference, in lower case'),
}


def compute(
  scoring: str,
  names: Sequence[str],
  predictions: list[str],
  written: list[list[str]],
  filled: list[list[str]],
) -> tuple[dict[str, float], dict[str, str], str]:
  """Scores, why others are unavailable, and the version of Java, which runs beside the rest.

  Args:
    scoring, names: which metrics to compute.
    predictions: [n] texts.
    written, filled: [n] lists of references, with and without empty ones.
  """
  with ThreadPoolExecutor() as pool:
    needs_java = any(ABOUT[name].java for name in names)
    version = pool.submit(java.version) if needs_java else None
    jobs: dict[str, Callable[[], float]] = {
      'accuracy': lambda: _accuracy(predictions, filled),
      'bleu': lambda: ngrams.bleu(predictions, written),
      'bleu_filled': lambda: ngrams.bleu(predictions, filled),
      'ter': lambda: ter.ter(predictions, filled),
    }
    if needs_java:
      jobs |= _java_jobs(pool, scoring, names, predictions, filled)
    together = _together(scoring, names, predictions, filled)
    jobs |= {name: functools.partial(together.__getitem__, name) for name in together}
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


def _java_jobs(
  pool: ThreadPoolExecutor,
  scoring: str,
  names: Sequence[str],
  predictions: list[str],
  references: list[list[str]],
) -> dict[str, Callable[[], float]]:
  """The metrics that need Java, which is started before they are asked for."""
  if scoring != 'e2e':
    return {'meteor': pool.submit(java.meteor, lambda: (predictions, references)).result}
  tokens: Future[caption.Tokens] = pool.submit(_caption_tokens, predictions, references)
  jobs: dict[str, Callable[[], float]] = {
    'rouge_l': lambda: caption.rouge_l(tokens.result()),
    'cider': lambda: caption.cider(tokens.result()),
  }
  if 'meteor' in names:
    jobs['meteor'] = pool.submit(java.meteor, tokens.result).result
  return jobs


def _together(
  scoring: str, names: Sequence[str], predictions: list[str], references: list[list[str]]
) -> dict[str, float]:
  """The scores of metrics that are computed several at a time."""
  if any(name.startswith('nist') for name in names):
    nist = ngrams.nist(predictions, references)
    return {'nist': nist.mteval, 'nist_pymteval': nist.pymteval}
  if scoring == 'wikisql':
    return dict(zip(('logical_form', 'queries'), sql.logical_form(predictions, references)))
  if any(name in rouge.NAMES for name in names):
    return rouge.rouge(predictions, references, any_script=scoring == ANY_SCRIPT)
  return {}


def _accuracy(predictions: list[str], references: list[list[str]]) -> float:
  """Share of references that equal the prediction; a repeated reference counts repeatedly."""
  plain = lambda text: text.strip().lower()
  pairs = [(plain(p), plain(r)) for p, texts in zip(predictions, references) for r in texts]
  return sum(p == r for p, r in pairs) / len(pairs)


def _waiting(name: str) -> int:
  """Sorts metrics by how long Java takes before they are ready: METEOR loads its tables."""
  return 2 if name == 'meteor' else int(ABOUT[name].java)


def _caption_tokens(predictions: list[str], references: list[list[str]]) -> caption.Tokens:
  """PTB tokens of all texts, by one start of Java."""
  flat = iter(java.ptb_tokens([*predictions, *(text for texts in references for text in texts)]))
  predicted = [next(flat) for _ in predictions]
  return predicted, [[next(flat) for _ in texts] for texts in references]
