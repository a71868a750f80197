r"""The whole comparison with PEFT and transformers on one machine, as one file for `results/runs`.

  python -m experiments.compare_peers --minutes=8 --out=results/runs/bench-gpu.json \
      --peer_python=peers/bin/python [--data_dir=DIR --model=path/to/encoder]

Every section runs in processes of its own, the most valuable first, and ends when the time is over;
the file is written after each, so a kill loses nothing. The same command with `--toy` runs in
minutes on a CPU, at sizes that say nothing but that everything works.

mfu_*        steps of LoRA, looped and scanned, and of full fine-tuning: seconds and utilization
peft_*       the same steps in PEFT, compiled and eager (needs --peer_python, see experiments/peers)
kernels      where the time of a step of LoRA goes, by the kind of its kernels (accelerators only)
sweep_*      16 members in one program against 16 runs, by the step and by the clock
rte          one epoch of RTE from the command to its end, cold and warm (needs --data_dir, --model)
decode, generate   beam search here, and by transformers
attention    packed and padded rows by attention
compile      from the command to the first step, looped and scanned layers, cold and warm
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import _cli
from lora_jax.bench import budget, comparison
from lora_jax.errors import nearest
from lora_jax.train import result, writers

MINUTES = flags.DEFINE_float('minutes', 8.0, 'Budget of all sections together.')
OUT = flags.DEFINE_string('out', None, 'JSON file that the figures are written to.', required=True)
PEER_PYTHON = flags.DEFINE_string(
  'peer_python', '', 'Python that has torch, transformers and peft; without it they are left out.'
)
SECTIONS = flags.DEFINE_list('sections', [], 'Sections to run, in this order; the default is all.')
DATA_DIR = flags.DEFINE_string('data_dir', '', "Folder of GLUE's archives, for the section rte.")
MODEL = flags.DEFINE_string('model', '', 'Folder of an encoder, for the section rte.')
TRAIN_FLAGS = flags.DEFINE_list('train_flags', [], 'Further flags of the command of rte.')
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed rounds, after one that is not counted.')
COMPILE_JOBS = flags.DEFINE_integer(
  'compile_jobs',
  4,
  'Programs of the sections mfu that are compiled at the same time; 1 shows the seconds of each.',
)
TOY = flags.DEFINE_bool('toy', False, 'Toy sizes, to try the command on a CPU.')


def chosen(every: Sequence[budget.Section]) -> list[budget.Section]:
  """The sections that the flag names.

  Raises:
    ValueError: for an unknown one.
  """
  by_name = {section.name: section for section in every}
  for name in SECTIONS.value:
    if name not in by_name:
      raise ValueError(f'--sections has {name!r}. {nearest(name, by_name)}')
  return [by_name[name] for name in SECTIONS.value or by_name]


def main() -> None:
  options = comparison.Options(
    peers=Path(__file__).parent / 'peers',
    peer_python=PEER_PYTHON.value,
    data_dir=DATA_DIR.value,
    model=MODEL.value,
    train_flags=TRAIN_FLAGS.value,
    rounds=ROUNDS.value,
    compile_jobs=COMPILE_JOBS.value,
    is_toy=TOY.value,
  )
  comparison.check(options)
  about = {**result.about(), 'hosts': 1, 'cpu': result.processor()}

  def save(report: budget.Report) -> None:
    measured, notes = dict(report['measured']), dict(report['notes'])
    if rows := comparison.against_peers(measured, options.sizes):
      measured[comparison.AGAINST] = rows
      notes[comparison.AGAINST] = comparison.AGAINST_NOTE
    found = {'experiment': 'bench', **about, 'rounds': ROUNDS.value, **report}
    writers.write_json(OUT.value, found | {'measured': measured, 'notes': notes})

  # Seconds are kept back for what is not in a section: the start of this process, and its end.
  sections = chosen(comparison.sections(options))
  report = budget.run(sections, 60 * MINUTES.value - 15, save)
  for name, state in report['sections'].items():
    print(name, json.dumps(state), flush=True)


if __name__ == '__main__':
  _cli.run(main)
