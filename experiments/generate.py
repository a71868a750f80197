"""Generates texts: `python -m experiments.generate --workdir=DIR --split=test --out=FILE`.

Writes a line for each distinct context of the split, in the order of its file, and prints JSON: the
scores, the settings of decoder and scorer, and examples. The references are written beside the
file, to `references-SPLIT.txt`. Neither replaces a file of other texts.
`--decode=length_penalty=0.8,beams=4` changes settings of the run's config.decode.
"""

import json

from absl import flags

from configs import _base
from experiments import _hosts
from lora_jax import fields
from lora_jax.train import generate, rundir, writers

NOT_HERE = ('contexts', 'final', 'stop')  # When training decodes, and a list.
WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.', required=True)
SPLIT = flags.DEFINE_string('split', 'test', "Split of the run's task to generate texts for.")
OUT = flags.DEFINE_string('out', None, 'New file to write the texts to.', required=True)
WHICH = flags.DEFINE_enum('which', 'best', ['best', 'last'], 'Checkpoint to generate with.')
DECODE = flags.DEFINE_list('decode', [], 'Changes to config.decode: beams=4,length_penalty=0.8.')


def main() -> None:
  decode = _base.base().decode.lock()
  decode.update(rundir.read_config(WORKDIR.value).get('decode', {}))
  for change in DECODE.value:
    name, _, value = change.partition('=')
    _base.check('setting of --decode', name, [key for key in decode if key not in NOT_HERE])
    try:
      decode[name] = type(decode[name])(value)
    except ValueError as error:
      raise ValueError(f'--decode={change}: {error}') from error
  fields.check(decode, 'decode')
  report = generate.generate_run(
    WORKDIR.value, decode, split=SPLIT.value, out=OUT.value, which=WHICH.value
  )
  _hosts.output(json.dumps(writers.to_json(report), indent=2, ensure_ascii=False))


if __name__ == '__main__':
  _hosts.run(main)
