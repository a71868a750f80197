r"""Whether a run survives what happens to it: `python -m experiments.chaos --workdir=DIR`.

A short job is killed at random moments by SIGKILL, SIGTERM and SIGINT; its newest checkpoint is
damaged, its disk filled, one of its input files changed, a second process started. The same
command starts it again until it has finished, and its result has to be that of a run that nothing
happened to, to the last bit. Full disks need the right to mount one (root).

  python -m experiments.chaos --workdir=/tmp/chaos --kills=50 --out=results/runs/chaos.json
"""

import pathlib

from absl import flags

from experiments import _cli
from lora_jax.bench import chaos
from lora_jax.files import check_new
from lora_jax.train import mesh, result, writers

WORKDIR = flags.DEFINE_string(
  'workdir', None, 'New folder for the job and its runs.', required=True
)
KILLS = flags.DEFINE_integer('kills', 50, 'Times that a signal is sent.', lower_bound=0)
BITS = flags.DEFINE_integer(
  'bits', 25, 'Times that a bit of a checkpoint is flipped.', lower_bound=0
)
FULL_DISKS = flags.DEFINE_integer('full_disks', 10, 'Times that the disk is filled.', lower_bound=0)
CHANGED = flags.DEFINE_integer('changed', 5, 'Times that an input file is changed.', lower_bound=0)
SECONDS = flags.DEFINE_integer('second', 5, 'Times that a second process starts.', lower_bound=0)
SEED = flags.DEFINE_integer('seed', 0, 'Seed of the moments, the bits and the order.')
OUT = flags.DEFINE_string('out', '', 'JSON file to write.')


def main() -> None:
  signals = list(chaos.SIGNALS)
  counts = {
    **{name: len(range(i, KILLS.value, len(signals))) for i, name in enumerate(signals)},
    'flipped bit': BITS.value,
    'full disk': FULL_DISKS.value,
    'changed input': CHANGED.value,
    'second process': SECONDS.value,
  }
  folder = check_new(pathlib.Path(WORKDIR.value))
  found = chaos.trial(folder, counts, SEED.value, lambda line: print(line, flush=True))
  for line in found['problems']:
    print(line)
  print(f'{found["finished"]} runs finished, {len(found["problems"])} problems')
  if OUT.value:
    about = {'experiment': 'chaos', **result.about(mesh.make_mesh(data=1))}
    writers.write_json(pathlib.Path(OUT.value), about | found)
  if found['problems']:
    raise SystemExit(1)


if __name__ == '__main__':
  _cli.run(main)
