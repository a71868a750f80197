"""A machine for measurements has few packages: what the commands import at their start."""

import subprocess
import sys

from tests import without

# Packages that scoring, plots, the hub and TFDS need, and a measurement does not.
LEFT_OUT = (
  'array_record', 'huggingface_hub', 'matplotlib', 'nltk', 'pycocoevalcap', 'rapidfuzz',
  'rouge_score', 'sacrebleu', 'sentencepiece', 'sklearn', 'tensorflow_datasets',
)  # fmt: skip
CODE = (
  without.PACKAGES
  + """import experiments.bench, experiments.train, lora_jax.bench.comparison
"""
)


def test_a_measurement_starts_without_what_it_does_not_need():
  subprocess.run([sys.executable, '-c', CODE, ','.join(LEFT_OUT)], check=True)


def test_no_command_waits_for_statistics_at_its_start():
  code = "import sys, experiments.train; sys.exit('scipy.stats' in sys.modules)"
  subprocess.run([sys.executable, '-c', code], check=True)
