"""Writes the trained parameters of a run, or an adapter, in another format.

  python -m experiments.export --workdir=runs/mrpc --format=adapter --out=DIR [--which=last]
  python -m experiments.export --adapter=FOLDER_OR_FILE --base=roberta-base --format=peft --out=DIR

Formats: `adapter` (this project's native format), `peft`, `loralib`, and `merged`, a Hugging Face
model with the adapter merged into it. `--adapter` reads the first three, from disk or as
`hub:user/name`. `--push=user/name` also uploads the folder. Prints what was written, as JSON.

`--as_lora --rank=8` writes the plain LoRA of rank 8 that is nearest to the update of any method
that can be merged (DoRA, PiSSA, ranks that differ, whole matrices), for tools that compute nothing
else, as vLLM. `lora_error` in what is printed is the share of the update that is lost, over all
matrices and in the worst one.
"""

import json

from absl import flags

from experiments import _cli
from lora_jax.adapters import hub
from lora_jax.train import export, writers

WORKDIR = flags.DEFINE_string('workdir', '', 'Run directory to export from.')
WHICH = flags.DEFINE_enum('which', 'best', ['best', 'last'], 'Checkpoint of the run to export.')
ADAPTER = flags.DEFINE_string(
  'adapter', '', 'Adapter to convert instead of a run: a folder, a file or hub:user/name.'
)
BASE = flags.DEFINE_string(
  'base', '', "Base of the adapter of --adapter: a preset or a model's folder."
)
ALPHA = flags.DEFINE_float('alpha', None, 'Alpha of a loralib file, which stores no scale.')
OTHER_BASE = flags.DEFINE_bool(
  'other_base', False, "Allow a base that is not the adapter's own, in --base."
)
FORMAT = flags.DEFINE_enum('format', 'adapter', export.FORMATS, 'Format to write.')
OUT = flags.DEFINE_string('out', None, 'New folder to write to.', required=True)
BASE_NAME = flags.DEFINE_string(
  'base_name', '', "Name of the base on the hub, which other tools load the adapter's base by."
)
DTYPE = flags.DEFINE_enum(
  'dtype',
  None,
  ['float32', 'bfloat16', 'float16'],
  "Dtype of a merged model's weights; by default the run's, or float32 with --adapter.",
)
AS_LORA = flags.DEFINE_bool(
  'as_lora', False, "Write the plain LoRA of --rank that is nearest to the adapter's update."
)
RANK = flags.DEFINE_integer('rank', 0, 'Rank of the plain LoRA of --as_lora.', lower_bound=0)
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
  if AS_LORA.value != (RANK.value > 0):
    raise ValueError(
      f'--as_lora and --rank go together (--as_lora --rank=8); found rank={RANK.value}'
    )
  names = dict(format=FORMAT.value, base_name=BASE_NAME.value, dtype=DTYPE.value or '')
  if WORKDIR.value:
    name = PUSH.value.rpartition('/')[2]
    report = export.export_run(
      WORKDIR.value, OUT.value, which=WHICH.value, name=name, rank=RANK.value, **names
    )
  else:
    report = export.export_adapter(
      ADAPTER.value,
      OUT.value,
      base=BASE.value,
      alpha=ALPHA.value,
      other_base=OTHER_BASE.value,
      rank=RANK.value,
      **names,
    )
  if PUSH.value:
    report['pushed'] = hub.push(str(report['out']), PUSH.value)
  print(json.dumps(writers.to_json(report), indent=2))


if __name__ == '__main__':
  _cli.run(main)
