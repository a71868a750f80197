"""Says whether what a run or a sweep left is whole: `python -m experiments.check --workdir=DIR`.

Every checkpoint is read in full and compared with its digests. It prints a line for each file and
checkpoint, exits with 1 if one is damaged, and changes nothing; a run that trains can be checked.
"""

from absl import flags

from experiments import _cli
from lora_jax.train import check

WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Run directory or folder of a sweep; may be gs://bucket/run.', required=True
)


def main() -> None:
  table, is_whole = check.table(WORKDIR.value)
  print(table)
  if not is_whole:
    raise ValueError(f'{WORKDIR.value} is damaged. Training resumes from what is whole.')


if __name__ == '__main__':
  _cli.run(main)
