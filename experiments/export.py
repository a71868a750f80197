"""Writes what a run trained, or an adapter, in another format.

  python -m experiments.export --workdir=runs/mrpc --format=adapter --out=DIR [--which=last]
  python -m experiments.export --adapter=FOLDER_OR_FILE --base=roberta-base --format=peft --out=DIR

Formats: `adapter` (this project's), `peft`, `loralib`, and `merged`, a Hugging Face model with the
adapter folded into it. `--adapter` reads the first three, from disk or as `hub:user/name`. With
`--push=user/name` the folder is uploaded as well. Prints JSON: what was written.
"""

import json

from absl import flags

from experiments import _cli
from lora_jax.adapters import hub
from lora_jax.train import export, writers

WORKDIR = flags.DEFINE_string('workdir', '', 'Run directory.')
WHICH = flags.DEFINE_enum('which', 'best', ['best', 'last'], "Which of the run's checkpoints.")
ADAPTER = flags.DEFINE_string('adapter', '', 'Instead of a run: a folder, file or hub:user/name.')
BASE = flags.DEFINE_string('base', '', "With --adapter: its base, a preset or a model's folder.")
ALPHA = flags.DEFINE_float('alpha', None, 'Of a loralib file, which stores no scale.')
OTHER_BASE = flags.DEFINE_bool('other_base', False, "Take a base that is not the adapter's own.")
FORMAT = flags.DEFINE_enum('format', 'adapter', export.FORMATS, 'What to write.')
OUT = flags.DEFINE_string('out', None, 'Folder to write, a new one.', required=True)
BASE_NAME = flags.DEFINE_string('base_name', '', "The base's name on the hub, for other tools.")
PUSH = flags.DEFINE_string('push', '', 'Repository on the hub to upload to: user/name.')


def main() -> None:
  if bool(WORKDIR.value) == bool(ADAPTER.value):
    raise ValueError('give one of --workdir=RUN and --adapter=FOLDER_OR_FILE')
  wrong = ('base', 'alpha', 'other_base') if WORKDIR.value else ('which',)
  if given := [f'--{flag}' for flag in wrong if flags.FLAGS[flag].present]:
    other = '--adapter' if WORKDIR.value else '--workdir'
    raise ValueError(f'only with {other}: {", ".join(given)}')
  if PUSH.value:
    hub.check_push(PUSH.value)  # Before the work.
  how = dict(format=FORMAT.value, base_name=BASE_NAME.value)
  if WORKDIR.value:
    name = PUSH.value.rpartition('/')[2]
    report = export.export_run(WORKDIR.value, OUT.value, which=WHICH.value, name=name, **how)
  else:
    how |= dict(base=BASE.value, alpha=ALPHA.value, other_base=OTHER_BASE.value)
    report = export.export_adapter(ADAPTER.value, OUT.value, **how)
  if PUSH.value:
    report['pushed'] = hub.push(report['out'], PUSH.value)
  print(json.dumps(writers.to_json(report), indent=2))


if __name__ == '__main__':
  _cli.run(main)
