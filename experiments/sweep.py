"""Trains a sweep: `python -m experiments.sweep --config=configs/rank.py:task=mrpc --workdir=DIR`.

The config file's `sweep()` yields the overrides of each run; runs that differ in seed, rank,
targets, alpha, rate, decay, warm-up or epochs alone are trained as one program, at most
`--config.sweep.width` at a time. Each ends as a run directory of its own in `DIR`.

The same command goes on with a sweep that was interrupted. Several machines that share `DIR` split
it by `--shard=0/2`, `--shard=1/2`; a run that a lost machine had claimed is free for the others
after ten minutes.
"""

import importlib.util
import inspect
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments import _cli
from lora_jax import sweep

CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, and after a colon its cell.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run directories.')
SHARD = flags.DEFINE_string('shard', '0/1', 'i/n: begin with part i of n, i from 0.')


def overrides_of(path: str, arg: str) -> Iterable[Mapping[str, Any]]:
  """What the `sweep` of a config file yields; one with an argument is given the cell's.

  Raises:
    ValueError: if the file has none.
  """
  spec = importlib.util.spec_from_file_location('config', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, 'sweep'):
    raise ValueError(f'{path} has no sweep(): a generator of overrides, as in configs/rank.py')
  takes_arg = 'arg' in inspect.signature(module.sweep).parameters
  return module.sweep(arg or None) if takes_arg else module.sweep()


def shard_of(text: str) -> tuple[int, int]:
  """(i, n) of `i/n`.

  Raises:
    ValueError: if it is not that, or i is not in [0, n).
  """
  found = re.fullmatch(r'(\d+)/(\d+)', text)
  if not found or int(found[1]) >= int(found[2]):
    raise ValueError(f'--shard={text}: expected i/n with i from 0 to n - 1, as 0/2 and 1/2')
  return int(found[1]), int(found[2])


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """A line a run: its name and its best score."""
  width = max(map(len, results), default=0)
  lines = []
  for name, found in results.items():
    best = found.get('best')
    shown = f'{best[found["metric"]]:.4f} at step {best["step"]}' if best else found['error']
    lines.append(f'{name:{width}}  {shown}')
  return '\n'.join(lines)


def main() -> None:
  shard = shard_of(SHARD.value)
  path, _, arg = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
  results = sweep.train(CONFIG.value, overrides_of(path, arg), WORKDIR.value, shard)
  print(table(results))
  print(f'{len(results)} runs are finished in {pathlib.Path(WORKDIR.value).absolute()}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  _cli.run(main)
