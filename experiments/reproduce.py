r"""A table or figure of the paper by one command, or the same table on another base.

  python -m experiments.reproduce --table=3 --data_dir=DIR
  python -m experiments.reproduce --table=3 --data_dir=DIR --model=models/smollm2 --seeds=3 \
      --budget_minutes=60 --set=model.dtype=bfloat16
  python -m experiments.reproduce --figure=3 --data_dir=DIR --model=models/smollm2

It lists the runs behind the table, what is finished, what is left and about how long that takes
here (`--dry_run` ends there), trains them in the order of their worth, one seed of all rows before
the next seed of any, and writes the pages. Started again after any interruption it resumes: nothing
is run twice. Without `--model` the runs are the paper's own models and settings; with it, the
methods of the table at settings of our own. Table 2 then tries the rates of every method on every
task with the first seed, and trains the other seeds at the best (`configs/compare.py`). With
`--paper=pissa`, `vera` or `qlora` they are that paper's rows of table 2 or 3, on its models
(`lora_jax/reproduce/later.py`).

Each run is a command of its own (`experiments.train`, or `experiments.sweep` where runs can share a
program) whose output is in `WORKDIR/logs`. One that fails is reported at the end and tried again at
the next start.
"""

from pathlib import Path

from absl import flags

from experiments import _cli, _tables
from lora_jax.reproduce import later, units
from lora_jax.sweep import overrides

TABLE = flags.DEFINE_string('table', '', 'Number of a table of the paper.')
FIGURE = flags.DEFINE_string('figure', '', 'Number of a figure of the paper, in place of a table.')
DATA_DIR = flags.DEFINE_string('data_dir', '', 'Folder of the official archives, or their files.')
MODEL = flags.DEFINE_string(
  'model', '', "Another base than the paper's: a folder, GGUF file, run directory or preset."
)
PAPER = flags.DEFINE_string(
  'paper',
  '',
  "A later paper whose rows of the table are trained, on that paper's models: "
  f'{", ".join(later.PAPERS)}.',
)
TASKS = flags.DEFINE_list('tasks', [], 'Tasks to train; the default is those of the table.')
METHODS = flags.DEFINE_list('methods', [], 'Methods to train; the default is those of the table.')
SEEDS = flags.DEFINE_integer(
  'seeds', 0, "Number of seeds; 0 is 3, and 5 for the paper's own table 2.", lower_bound=0
)
SET = flags.DEFINE_multi_string(
  'set', [], 'Field of the config of all runs, as data.limit=4000; may be repeated.'
)
BUDGET = flags.DEFINE_float(
  'budget_minutes',
  0.0,
  'Start no run that would not end in so many minutes, and save and end what runs then; 0 is no '
  'limit. The pages are written after that.',
  lower_bound=0.0,
)
SHARD = flags.DEFINE_string(
  'shard', '0/1', 'i/n: train part i of the n parts of the table, counted from 0.'
)
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the plan and train nothing.')
TINY = flags.DEFINE_bool('tiny', False, 'Toy runs of seconds, to try the command.')
WORKDIR = flags.DEFINE_string(
  'workdir', '', 'Folder of the runs; the default is runs/table-3-MODEL, by table and model.'
)
FOLDER = flags.DEFINE_string('folder', 'runs/report', 'Folder to keep results and pages in.')


def main() -> None:
  if bool(TABLE.value) == bool(FIGURE.value):
    raise ValueError('expected one of --table=N and --figure=N, as --table=3')
  _tables.reproduce(
    _tables.Request(
      kind='table' if TABLE.value else 'figure',
      number=TABLE.value or FIGURE.value,
      choice=units.Choice(
        MODEL.value,
        tuple(TASKS.value),
        tuple(METHODS.value),
        SEEDS.value,
        TINY.value,
        PAPER.value,
      ),
      fields=units.parse_fields(SET.value),
      data_dir=DATA_DIR.value,
      workdir=WORKDIR.value,
      folder=Path(FOLDER.value),
      shard=overrides.parse_shard(SHARD.value),
      budget_minutes=BUDGET.value,
      is_dry=DRY_RUN.value,
    )
  )


if __name__ == '__main__':
  _cli.run(main)
