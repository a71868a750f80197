"""Evaluates a run: `python -m experiments.evaluate --workdir=DIR [--split=dev] [--which=last]`.

Prints JSON: the metrics of the adapted model, those of the model with the adapter merged into it,
and the largest difference between the two in any logit.
"""

import json

from absl import flags

from experiments import _hosts
from lora_jax.train import evaluate, writers

WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.', required=True)
SPLIT = flags.DEFINE_list(
  'split', [], "Splits to evaluate, separated by commas; empty for the task's held-out splits."
)
WHICH = flags.DEFINE_enum('which', 'best', ['best', 'last'], 'Checkpoint to evaluate.')


def main() -> None:
  report = evaluate.evaluate_run(WORKDIR.value, which=WHICH.value, splits=SPLIT.value)
  _hosts.output(json.dumps(writers.to_json(report), indent=2))


if __name__ == '__main__':
  _hosts.run(main)
