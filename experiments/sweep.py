"""Trains a sweep: `python -m experiments.sweep --config=configs/rank.py:task=mrpc --workdir=DIR`.

The function `sweep()` of the config file yields the overrides of each run. Runs that differ only in
seed, rank, targets, alpha, learning rate, weight decay, warm-up or epochs are trained as one
program, at most `--config.sweep.width` at a time; where that is 0, as many as let the sweep end
soonest by `lora_jax/sweep/choice.py`, which says why in one line. On a CPU the members of a program
are computed one after the other. Each leaves a run directory of its own in `DIR`.

If a sweep was interrupted, the same command resumes it. Several machines that share `DIR` divide
it by `--shard=0/2` and `--shard=1/2`, the same n at every start; the others take over the runs of a
machine that was lost, after two minutes.
"""

import pathlib
from collections.abc import Mapping
from typing import cast

from absl import flags
from ml_collections import config_flags

from experiments import _cli
from lora_jax import sweep
from lora_jax.report import runs, scores
from lora_jax.result_schema import RunResult
from lora_jax.sweep import overrides
from lora_jax.train import rundir

CONFIG = config_flags.DEFINE_config_file('config', None, _cli.CONFIG_HELP)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run directories.', required=True)
SHARD = flags.DEFINE_string(
  'shard', '0/1', 'i/n: of the n parts of the sweep, start with part i, counted from 0.'
)


def table(results: Mapping[str, RunResult | rundir.Failure]) -> str:
  """A line for each run: its name and its best score, or its error; `scores.fault` is marked."""
  width = max(map(len, results), default=0)
  lines = []
  for name, found in results.items():
    if 'error' in found:
      shown = f'diverged: {found["error"]}'
    else:
      run = runs.with_numbers(cast(RunResult, found))
      shown = f'{run["best"][run["metric"]]:.4f} at step {run["best"]["step"]}'
      shown += scores.faults([run])
    lines.append(f'{name:{width}}  {shown}')
  return '\n'.join(lines)


def main() -> None:
  shard = overrides.parse_shard(SHARD.value)
  path, _, arg = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
  members = overrides.read_overrides(path, arg)
  results = sweep.train(CONFIG.value, members, WORKDIR.value, shard)
  print(table(results))
  print(f'{len(results)} runs are finished in {pathlib.Path(WORKDIR.value).absolute()}')


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  _cli.run(main)
