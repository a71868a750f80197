"""A machine for measurements has few packages: what the commands import at their start."""

import subprocess
import sys

# Packages that scoring, plots, the hub and TFDS need, and a measurement does not.
LEFT_OUT = (
  'array_record', 'huggingface_hub', 'matplotlib', 'nltk', 'pycocoevalcap', 'rapidfuzz',
  'rouge_score', 'sacrebleu', 'sentencepiece', 'sklearn', 'tensorflow_datasets',
)  # fmt: skip
CODE = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in sys.argv[1].split(','):
      raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import experiments.bench, experiments.train, lora_jax.bench.comparison
"""


def test_a_measurement_starts_without_what_it_does_not_need():
  subprocess.run([sys.executable, '-c', CODE, ','.join(LEFT_OUT)], check=True)
