"""Trains one run: `python -m experiments.train --config=configs/glue.py:task=mrpc --workdir=DIR`.

The same command goes on with a run that was interrupted. Several processes train one run together
(`experiments/_hosts.py`).
"""

from absl import flags, logging
from ml_collections import config_flags

from experiments import _hosts
from lora_jax.train import loop

CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, and after a colon its cell.')
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Run directory, made or gone on with: a folder, or gs://bucket/run.'
)


def main() -> None:
  result = loop.train(CONFIG.value, WORKDIR.value)
  name, best = result['metric'], result['best']
  logging.info(
    'best %s %.4f at step %d; all in %s/result.json', name, best[name], best['step'], WORKDIR.value
  )


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  _hosts.run(main, preemptible=True)
