"""The sections of a comparison with PEFT and transformers, each in processes of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from lora_jax.bench import budget, first_step
from lora_jax.bench.budget import Found, Section
from lora_jax.bench.timing import Row, Rows

Run = Callable[[float], Iterator[Found]]
PEER_IMPORTS = 120.0  # Seconds in which the peers' packages are imported, also from a cold disk.
AGAINST = 'lora_jax against PEFT'
AGAINST_NOTE = (
  'Seconds of a step here, by the fastest attention, and by PEFT; of_compile and of_eager are the '
  'ratios, below 1 is faster.'
)


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What a comparison is made of.

  Attributes:
    peers: folder of the peers' scripts.
    peer_python: a Python that has torch, transformers and peft; '' leaves them out.
    data_dir, model: folders of GLUE's archives and of an encoder, for the section rte; '' leaves it
      out.
    train_flags: further flags of its command.
    rounds: timed rounds.
    compile_jobs: programs of the sections mfu that are compiled at the same time; with more than 1
      they end sooner, and the seconds of compiling are left out.
    is_toy: whether the sizes are toys.
  """

  peers: Path
  peer_python: str = ''
  data_dir: str = ''
  model: str = ''
  train_flags: Sequence[str] = ()
  rounds: int = 5
  compile_jobs: int = 1
  is_toy: bool = False

  @property
  def sizes(self) -> Sizes:
    """The shapes of the sections."""
    return TOYS if self.is_toy else Sizes()


def check(options: Options) -> None:
  """Refuses what a section would fail on only after the minutes of those before it.

  Raises:
    ValueError: for a `peer_python` that is not there or lacks a package, and for a folder that is
      not there.
  """
  for flag, folder in (('data_dir', options.data_dir), ('model', options.model)):
    if folder and not Path(folder).expanduser().exists():
      raise ValueError(
        f'--{flag}={folder}: expected a folder, found nothing there. Correct it, or leave it out'
      )
  if options.peer_python:
    try:
      budget.child([options.peer_python, '-c', 'import peft, torch, transformers'], PEER_IMPORTS)
    except (OSError, budget.ChildError) as error:
      reason = str(error).strip().splitlines()[-1]
      raise ValueError(
        f'--peer_python={options.peer_python}: expected a Python that has torch, transformers and '
        f'peft ({reason}). See experiments/peers, or leave the flag out.'
      ) from error


def batch(shape: str) -> list[str]:
  """The flags of `experiments.bench` for one model and batch."""
  model, _, size = shape.partition(':')
  rows, _, length = size.partition('x')
  return [f'--model={model}', f'--rows={rows}', f'--length={length}']


def title(prefix: str, shape: str) -> str:
  """The title of a table, as `experiments.bench` has it."""
  return f'{prefix}, {shape.replace(":", " ")}'


def bench(*arguments: str) -> Run:
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
        found = json.loads(out.read_text(encoding='utf-8'))
        kept = {name: found[name] for name in ('device', 'measured', 'notes', 'skipped')}
        yield cast(Found, kept)
      if error:
        raise error

  return run


def peer(options: Options, script: str, *arguments: str) -> Run:
  """A section that runs a script of `experiments/peers` in the environment of the peers."""

  def run(left: float) -> Iterator[Found]:
    if not options.peer_python:
      raise ValueError('--peer_python names no Python that has torch, transformers and peft')
    error, command = None, [options.peer_python, str(options.peers / script), *arguments]
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


def rte(options: Options, left: float) -> Iterator[Found]:
  """One epoch of RTE by the command that a user types: with an empty cache, then a warm one."""
  if not (options.data_dir and options.model):
    raise ValueError("the section rte needs --data_dir (GLUE's archives) and --model (an encoder)")
  end, rows = time.monotonic() + left, {}
  with tempfile.TemporaryDirectory(prefix='rte-') as folder:
    for name in ('cold', 'warm'):
      rows[name] = rte_run(options, Path(folder), name, end - time.monotonic())
      note = (
        'Seconds by the clock of `python -m experiments.train` on RTE, one epoch, from the command '
        'to its end; of them training, compiling and evaluating as result.json says. cold: with an '
        'empty compilation cache; warm: the same command again.'
      )
      yield {'measured': {'RTE by the clock': rows}, 'notes': {'RTE by the clock': note}}


def rte_run(options: Options, folder: Path, name: str, left: float) -> Row:
  """The seconds of one run."""
  workdir, cache = folder / name, {first_step.CACHE: str(folder / 'cache')}
  command = [
    sys.executable, '-m', 'experiments.train', f'--workdir={workdir}',
    f'--config=configs/glue.py:task=rte,preset=small,model={options.model}',
    f'--config.data.dir={options.data_dir}', '--config.train.epochs=1', *options.train_flags,
  ]  # fmt: skip
  began = time.monotonic()
  budget.child(command, left, cache)
  clock = time.monotonic() - began
  found = json.loads((workdir / 'result.json').read_text(encoding='utf-8'))
  seconds = {key: float(value) for key, value in found['seconds'].items()}
  return {'by_the_clock': clock, **seconds, 'shapes': len(found['shapes']), 'steps': found['steps']}


def sections(options: Options) -> list[Section]:
  """All sections, the most valuable first."""
  sizes, few = options.sizes, f'--rounds={options.rounds}'
  jobs = f'--compile_jobs={options.compile_jobs}'
  toy = ['--toy'] if options.is_toy else []

  def mfu(shape: str, methods: str) -> Run:
    # The section attention compares implementations; auto is cuDNN's on these GPUs.
    asked = ['--implementations=auto', '--scans=true', f'--methods={methods}']
    return bench('--parts=mfu', f'--shapes={shape}', *asked, few, jobs)

  def peft(shape: str, methods: str) -> Run:
    return peer(options, 'peft_step.py', f'--shapes={shape}', f'--methods={methods}', few)

  def sweep(shape: str) -> Run:
    members = f'--members={sizes.members}'
    return bench('--parts=sweep', members, *batch(shape), '--dropout=0', few)

  attention = ['--parts=attention', f'--shapes={sizes.attention}', few, '--compile_jobs=4']
  generate = [f'--contexts={sizes.contexts}', *toy]
  return [
    Section('mfu_base', mfu(sizes.base, 'lora,full')),
    Section('peft_base', peft(sizes.base, 'lora,full'), most=200.0),
    Section('mfu_decoder', mfu(sizes.decoder, 'lora')),
    Section('peft_decoder', peft(sizes.decoder, 'lora')),
    Section('mfu_large', mfu(sizes.large, 'lora')),
    Section('peft_large', peft(sizes.large, 'lora')),
    Section('kernels', bench('--parts=kernels', f'--shapes={sizes.base},{sizes.decoder}', few)),
    Section('rte', functools.partial(rte, options)),
    Section('sweep_small', sweep(sizes.small)),
    Section('decode', bench('--parts=decode', f'--contexts={sizes.contexts}', '--beams=10')),
    Section('generate', peer(options, 'transformers_generate.py', *generate)),
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
