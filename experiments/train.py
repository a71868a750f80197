"""Trains one run: `python -m experiments.train --config=configs/glue.py:task=mrpc --workdir=DIR`.

If the run was interrupted, the same command resumes it. Several processes can train one run
together (`experiments/_hosts.py`).
"""

import sys

from absl import flags
from ml_collections import config_flags

from experiments import _cli, _hosts
from lora_jax.train import display, loop

CONFIG = config_flags.DEFINE_config_file('config', None, _cli.CONFIG_HELP)
WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Run directory to make or to resume: a folder, or gs://bucket/run.',
  required=True,
)


def main() -> None:
  result = loop.train(CONFIG.value, WORKDIR.value)
  name, best = result['metric'], result['best']
  if sys.stdout.isatty():
    _hosts.output(display.table(result['history'], result['best']))
  _hosts.output(
    f'best {name} {best[name]:.4f} at step {best["step"]}; all in {WORKDIR.value}/result.json'
  )


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  _hosts.run(main, preemptible=True)
