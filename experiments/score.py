"""Scores texts as the paper's tables do, and prints JSON.

  python -m experiments.score --task=e2e --predictions=FILE --references=FILE [--metrics=bleu,nist]

BLEU, METEOR and ROUGE-L are in [0, 1]. Metrics that need Java, on a machine without it, are listed
under `unavailable` with the reason. Texts are scored as they are: both files must be in one form
(`family-friendly` or, as in the authors' files, `family - friendly`). The forms of the files are
described in `lora_jax/data/scored_texts.py`. An empty output, or an empty line among plain
predictions, is an error unless --allow_empty says that the model answered with nothing.
"""

import json

from absl import flags

from experiments import _cli
from lora_jax.data import scored_texts
from lora_jax.metrics import text

TASK = flags.DEFINE_enum('task', None, text.SCORINGS, 'Task whose metrics to use.', required=True)
PREDICTIONS = flags.DEFINE_string(
  'predictions', None, 'File of the predictions: plain lines, .csv or .tsv.', required=True
)
REFERENCES = flags.DEFINE_multi_string(
  'references',
  None,
  'File of the references: .csv or plain lines. Repeat the flag for several files of plain lines.',
  required=True,
)
METRICS = flags.DEFINE_list('metrics', [], 'Metrics, separated by commas; empty for all.')
ALLOW_EMPTY = flags.DEFINE_bool(
  'allow_empty', False, 'Score empty predictions instead of rejecting them.'
)


def main() -> None:
  references = scored_texts.read_references(REFERENCES.value)
  predictions = scored_texts.read_predictions(PREDICTIONS.value, ALLOW_EMPTY.value)
  texts = scored_texts.align(predictions, references)
  report = text.score(TASK.value, texts, references.texts, METRICS.value)
  print(json.dumps({'task': TASK.value, **report._asdict()}, indent=2, ensure_ascii=False))


if __name__ == '__main__':
  _cli.run(main)
