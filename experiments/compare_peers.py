r"""The whole comparison with PEFT and transformers on one machine, as one file for `results/runs`.

  python -m experiments.compare_peers --minutes=8 --out=results/runs/bench-gpu.json \
      --peer_python=peers/bin/python [--data_dir=DIR --model=path/to/encoder]

Every section runs in processes of its own, the most valuable first, and ends when the time is over;
the file is written after each, so a kill loses nothing. The same command with `--toy` runs in
minutes on a CPU, at sizes that say nothing but that everything works.

mfu_*        steps of LoRA by attention, and of full fine-tuning: seconds and utilization
peft_*       the same steps in PEFT, compiled and eager (needs --peer_python, see experiments/peers)
sweep_*      16 members in one program against 16 runs, by the step and by the clock
rte          one epoch of RTE from the command to its end, cold and warm (needs --data_dir, --model)
decode, generate   beam search here, and by transformers
attention    packed and padded rows by attention
compile      from the command to the first step, looped and scanned layers, cold and warm
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from absl import flags

from experiments import _cli
from lora_jax.bench import budget, first_step
from lora_jax.bench.budget import Found, Section
from lora_jax.bench.timing import Row, Rows
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
TOY = flags.DEFINE_bool('toy', False, 'Toy sizes, to try the command on a CPU.')
PEERS = Path(__file__).parent / 'peers'


class Sizes(NamedTuple):
  """Shapes of the sections, each as MODEL:ROWSxLENGTH."""

  base: str = 'roberta-base:32x128'
  large: str = 'roberta-large:32x128'
  decoder: str = 'gpt2-medium:8x512'
  small: str = 'minilm:32x128'
  attention: str = 'roberta-base:32x128,deberta-v3-base:32x128,gpt2-medium:8x512'
  members: int = 16
  contexts: int = 64


TOYS = Sizes(
  base='toy-roberta:4x32',
  large='toy-roberta:2x32',
  decoder='toy-gpt2:4x32',
  small='toy-roberta:4x16',
  attention='toy-deberta:4x32',
  members=2,
  contexts=2,
)


def batch(shape: str) -> list[str]:
  """The flags of `experiments.bench` for one model and batch."""
  model, _, size = shape.partition(':')
  rows, _, length = size.partition('x')
  return [f'--model={model}', f'--rows={rows}', f'--length={length}']


def title(prefix: str, shape: str) -> str:
  """The title of a table, as `experiments.bench` has it."""
  return f'{prefix}, {shape.replace(":", " ")}'


def bench(*arguments: str) -> Callable[[float], Iterator[Found]]:
  """A section that runs parts of `experiments.bench`, with a cache of its own."""

  def run(left: float) -> Iterator[Found]:
    with tempfile.TemporaryDirectory(prefix='bench-') as folder:
      out = Path(folder, 'out.json')
      command = [sys.executable, '-m', 'experiments.bench', *arguments, f'--out={out}']
      error = None
      try:
        budget.child(command, left, {first_step.CACHE: str(Path(folder, 'cache'))})
      except budget.ChildError as failed:
        error = failed
      if out.exists():
        found = json.loads(out.read_text())
        kept = {name: found[name] for name in ('device', 'measured', 'notes', 'skipped')}
        yield cast(Found, kept)
      if error:
        raise error

  return run


def peer(script: str, *arguments: str) -> Callable[[float], Iterator[Found]]:
  """A section that runs a script of `experiments/peers` in the environment of the peers."""

  def run(left: float) -> Iterator[Found]:
    if not PEER_PYTHON.value:
      raise ValueError('--peer_python names no Python that has torch, transformers and peft')
    error, command = None, [PEER_PYTHON.value, str(PEERS / script), *arguments]
    try:
      output = budget.child(command, left)
    except budget.ChildError as failed:
      error, output = failed, failed.output
    lines = [line for line in output.splitlines() if line.startswith('{')]
    for found in last_complete(lines):
      name = 'PEFT' if script.startswith('peft') else 'transformers'
      yield {
        'measured': {title(name, shape): rows for shape, rows in found['measured'].items()},
        'notes': {title(name, shape): peer_note(found) for shape in found['measured']},
        'skipped': {name: found['errors']} if found['errors'] else {},
        'versions': found['versions'],
      }
    if error:
      raise error

  return run


def last_complete(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
  """The last line that is a whole JSON value: a kill may cut one short."""
  for line in reversed(lines):
    with contextlib.suppress(ValueError):
      yield json.loads(line)
      return


def peer_note(found: Mapping[str, object]) -> str:
  """What the figures of a peer mean."""
  return (
    f'Seconds in {found["dtype"]} on the same shapes, timed in the same way; `compiling` is what '
    'the first call took more than later ones.'
  )


def rte(left: float) -> Iterator[Found]:
  """One epoch of RTE by the command that a user types: with an empty cache, then a warm one."""
  if not (DATA_DIR.value and MODEL.value):
    raise ValueError("the section rte needs --data_dir (GLUE's archives) and --model (an encoder)")
  end, rows = time.monotonic() + left, {}
  with tempfile.TemporaryDirectory(prefix='rte-') as folder:
    for name in ('cold', 'warm'):
      rows[name] = rte_run(Path(folder), name, end - time.monotonic())
      note = (
        'Seconds by the clock of `python -m experiments.train` on RTE, one epoch, from the command '
        'to its end; of them training, compiling and evaluating as result.json says. cold: with an '
        'empty compilation cache; warm: the same command again.'
      )
      yield {'measured': {'RTE by the clock': rows}, 'notes': {'RTE by the clock': note}}


def rte_run(folder: Path, name: str, left: float) -> Row:
  """The seconds of one run."""
  workdir, cache = folder / name, {first_step.CACHE: str(folder / 'cache')}
  command = [
    sys.executable, '-m', 'experiments.train', f'--workdir={workdir}',
    f'--config=configs/glue.py:task=rte,preset=small,model={MODEL.value}',
    f'--config.data.dir={DATA_DIR.value}', '--config.train.epochs=1', *TRAIN_FLAGS.value,
  ]  # fmt: skip
  began = time.monotonic()
  budget.child(command, left, cache)
  clock = time.monotonic() - began
  found = json.loads((workdir / 'result.json').read_text())
  seconds = {key: float(value) for key, value in found['seconds'].items()}
  return {'by_the_clock': clock, **seconds, 'shapes': len(found['shapes']), 'steps': found['steps']}


def sections(sizes: Sizes) -> list[Section]:
  """All sections, the most valuable first."""
  quick = [f'--rounds={ROUNDS.value}', '--compile_jobs=4']
  toy = ['--toy'] if TOY.value else []
  few = [f'--rounds={ROUNDS.value}']

  def mfu(shape: str, methods: str) -> Callable[[float], Iterator[Found]]:
    return bench('--parts=mfu', f'--shapes={shape}', f'--methods={methods}', *quick)

  def peft(shape: str, methods: str) -> Callable[[float], Iterator[Found]]:
    return peer('peft_step.py', f'--shapes={shape}', f'--methods={methods}', *few)

  def sweep(shape: str) -> Callable[[float], Iterator[Found]]:
    members = f'--members={sizes.members}'
    return bench('--parts=sweep', members, *batch(shape), '--dropout=0', *few)

  attention = ['--parts=attention', f'--shapes={sizes.attention}', *quick]
  generate = [f'--contexts={sizes.contexts}', *toy]
  return [
    Section('mfu_base', mfu(sizes.base, 'lora,full')),
    Section('peft_base', peft(sizes.base, 'lora,full')),
    Section('mfu_decoder', mfu(sizes.decoder, 'lora')),
    Section('peft_decoder', peft(sizes.decoder, 'lora')),
    Section('mfu_large', mfu(sizes.large, 'lora')),
    Section('peft_large', peft(sizes.large, 'lora')),
    Section('rte', rte),
    Section('sweep_small', sweep(sizes.small)),
    Section('decode', bench('--parts=decode', f'--contexts={sizes.contexts}', '--beams=10')),
    Section('generate', peer('transformers_generate.py', *generate)),
    Section('attention', bench(*attention)),
    Section('compile', bench('--parts=compile', *batch(sizes.base))),
    Section('sweep_base', sweep(sizes.base)),
  ]


def against_peers(measured: Mapping[str, Rows], sizes: Sizes) -> Rows:
  """By shape and method the best seconds here, those of PEFT, and their ratios."""
  rows: Rows = {}
  for shape in (sizes.base, sizes.large, sizes.decoder):
    own, theirs = (measured.get(title(name, shape), {}) for name in ('mfu', 'PEFT'))
    for method in ('lora', 'full'):
      best = min(
        (row['seconds'] for name, row in own.items() if name.startswith(method)), default=0
      )
      row = {'seconds': best}
      for mode in ('compile', 'eager'):
        if best and (found := theirs.get(f'{method}, {mode}')):
          row |= {f'peft_{mode}': found['seconds'], f'of_{mode}': best / found['seconds']}
      if len(row) > 1:
        rows[f'{method}, {shape.replace(":", " ")}'] = row
  return rows


def chosen(every: Sequence[Section]) -> list[Section]:
  """The sections that the flag names.

  Raises:
    ValueError: for an unknown one.
  """
  by_name = {section.name: section for section in every}
  for name in SECTIONS.value:
    if name not in by_name:
      raise ValueError(f'--sections has {name!r}. {nearest(name, by_name)}')
  return [by_name[name] for name in SECTIONS.value] if SECTIONS.value else list(every)


def main() -> None:
  sizes = TOYS if TOY.value else Sizes()
  about = {**result.about(), 'hosts': 1, 'cpu': result.processor()}

  def save(report: budget.Report) -> None:
    shown = dict(report['measured'])
    notes = dict(report['notes'])
    if rows := against_peers(shown, sizes):
      shown['lora_jax against PEFT'] = rows
      notes['lora_jax against PEFT'] = (
        'Seconds of a step here, by the fastest attention, and by PEFT; of_compile and of_eager '
        'are the ratios, below 1 is faster.'
      )
    found = {'experiment': 'bench', **about, 'rounds': ROUNDS.value, **report}
    writers.write_json(OUT.value, found | {'measured': shown, 'notes': notes})

  # The seconds of the last section's end are kept back: a process takes a moment to be ended.
  report = budget.run(chosen(sections(sizes)), 60 * MINUTES.value - 5, save)
  for name, state in report['sections'].items():
    print(name, json.dumps(state), flush=True)


if __name__ == '__main__':
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  _cli.run(main)
