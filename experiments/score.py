"""Scores texts as the paper's tables do, and prints JSON.

  python -m experiments.score --task=e2e --predictions=FILE --references=FILE [--metrics=bleu,nist]
  python -m experiments.score --workdir=RUN

The second form scores again the texts that a finished run decoded, and puts the scores into its
result.json: for a run of a machine without Java, on one that has it and the run's data.

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

WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory, in place of the flags below.')
TASK = flags.DEFINE_enum('task', None, text.SCORINGS, 'Task whose metrics to use.')
PREDICTIONS = flags.DEFINE_string(
  'predictions', None, 'File of the predictions: plain lines, .csv or .tsv.'
)
REFERENCES = flags.DEFINE_multi_string(
  'references',
  None,
  'File of the references: .csv or plain lines. Repeat the flag for several files of plain lines.',
)
METRICS = flags.DEFINE_list('metrics', [], 'Metrics, separated by commas; empty for all.')
ALLOW_EMPTY = flags.DEFINE_bool(
  'allow_empty', False, 'Score empty predictions instead of rejecting them.'
)


def main() -> None:
  task, predictions, references = TASK.value, PREDICTIONS.value, REFERENCES.value
  given = {'--task': task, '--predictions': predictions, '--references': references}
  if WORKDIR.value:
    others = [name for name, value in {**given, '--metrics': METRICS.value}.items() if value]
    if others:
      raise ValueError(
        f'--workdir scores a run by its own task and files: leave out {", ".join(others)}'
      )
    from lora_jax.train import rescore, writers  # Scores of files need none of its packages.

    scored = rescore.rescore(WORKDIR.value)
    print(json.dumps(writers.to_json(scored), indent=2, ensure_ascii=False))
    return
  if not (task and predictions and references):
    missing = ', '.join(name for name, value in given.items() if not value)
    raise ValueError(f'expected --workdir=RUN, or also {missing}')
  known = scored_texts.read_references(references)
  texts = scored_texts.align(scored_texts.read_predictions(predictions, ALLOW_EMPTY.value), known)
  report = text.score(task, texts, known.texts, METRICS.value)
  print(json.dumps({'task': task, **report._asdict()}, indent=2, ensure_ascii=False))


if __name__ == '__main__':
  _cli.run(main)
