"""Whether a run survives what happens to it: killed, on a full disk, damaged, with changed files.

A short job is started again and again by one command. Each time something happens to it, at a
random moment; when it has finished, its result is compared with that of a run that nothing happened
to, to the last bit. A run that differs, or that the command does not finish, is a failure.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lora_jax import provenance, tree
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.result_schema import Chaos, ChaosRow
from lora_jax.train import curve, job, rundir

WORDS = ['good', 'bad', 'film', 'plot', 'the', 'a', 'was', 'is', 'very', 'not', 'cast', 'score']
SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
TRAIN, DEV = 320, 40  # Examples.
OVERRIDES = {
  'data.max_length': 32,
  'data.max_shapes': 1,
  'data.row_length': 32,
  'train.batch_size': 8,
  'train.epochs': 4,
  'optim.lr': 1e-2,
  'eval.every_steps': 40,
  'checkpoint.every_steps': 5,
  'mesh.data': 1,
}
COMPARED = ('history', 'best', 'last', 'steps', 'padding', 'parameters')
DISK = 1 << 26  # Bytes.
LIMIT = 300.0  # Seconds that a start of the command may take.
UNNAMED = 125  # In place of the status of a refusal that names no file.
SIGNALS = {'SIGKILL': -9, 'SIGTERM': 143, 'SIGINT': 130}  # And the status that each ends with.


class Job(NamedTuple):
  """The job: the folder of its files, and the one of its runs."""

  inputs: Path
  runs: Path

  def command(self, run: Path) -> list[str]:
    """The command that trains it, and resumes it."""
    config = f'configs/glue.py:task=sst2,model={self.inputs}/base,preset=small,method=lora'
    fields = OVERRIDES | {'data.dir': self.inputs, 'data.tokenizer': self.inputs / 'tokenizer'}
    flags = [f'--config.{name}={value}' for name, value in fields.items()]
    train = [sys.executable, '-m', 'experiments.train', f'--workdir={run}']
    return [*train, f'--config={config}', *flags]


class Ended(NamedTuple):
  """How a process ended: its status and its last line on standard error."""

  status: int
  said: str
  seconds: float


def make_job(folder: Path, runs: Path) -> Job:
  """Writes the job's files: a base of random weights, a vocabulary, and data."""
  drawn = random.Random(0)
  inputs = folder / 'inputs'
  (inputs / 'SST-2').mkdir(parents=True)
  (inputs / 'tokenizer').mkdir()
  for split, size in (('train', TRAIN), ('dev', DEV)):
    lines = ['sentence\tlabel']
    for _ in range(size):
      label = drawn.randrange(2)
      words = drawn.choices(WORDS[2:], k=drawn.randrange(2, 12))
      words.insert(drawn.randrange(len(words)), WORDS[1 - label])
      lines.append(f'{" ".join(words)}\t{label}')
    (inputs / 'SST-2' / f'{split}.tsv').write_text('\n'.join(lines) + '\n', encoding='utf-8')
  (inputs / 'tokenizer' / 'vocab.txt').write_text(
    '\n'.join([*SPECIAL, *WORDS]) + '\n', encoding='utf-8'
  )
  config = presets.architecture(
    'bert', vocab_size=64, hidden_size=32, num_layers=2, num_heads=2, max_positions=32,
    initializer_range=0.3,
  )  # fmt: skip
  huggingface.save_model(
    inputs / 'base', *huggingface.fresh_model(config, task='classification', num_labels=2)
  )
  return Job(inputs, runs)


def start(command: Sequence[str]) -> subprocess.Popen[str]:
  """Starts the command; what it prints is kept for `wait`."""
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait(process: subprocess.Popen[str], begun: float) -> Ended:
  """Waits for the end of a process; after `LIMIT` it is killed, with status 124."""
  try:
    output, _ = process.communicate(timeout=LIMIT)
    status = process.returncode
  except subprocess.TimeoutExpired:
    process.kill()
    output, status = process.communicate()[0], 124
  lines = [line for line in output.splitlines() if line.strip()]
  return Ended(status, lines[-1] if lines else '', time.monotonic() - begun)


def complete(command: Sequence[str]) -> Ended:
  """Runs the command to its end."""
  begun = time.monotonic()
  return wait(start(command), begun)


def differences(run: Path, oracle: Path) -> list[str]:
  """In what two finished runs differ: results, metrics, arrays of the best and last step."""
  one, other = rundir.read_result(run), rundir.read_result(oracle)
  found = [name for name in COMPARED if one is None or other is None or one[name] != other[name]]
  if _lines(run) != _lines(oracle):
    found.append('metrics.jsonl')
  config = rundir.read_config(oracle)
  for which in ('best', 'last'):
    ours, theirs = (job.read_trainable(folder, config, which) for folder in (run, oracle))
    same = ours[0] == theirs[0] and all(
      np.array_equal(leaf, tree.flatten(theirs[1])[path])
      for path, leaf in tree.flatten(ours[1]).items()
    )
    if not same:
      found.append(f'{which} checkpoint')
  return found


def _lines(run: Path) -> list[dict[str, object]] | None:
  """The lines of a run's `metrics.jsonl` without its speeds; None where one of them is damaged."""
  try:
    return curve.reproducible(curve.read(run / 'metrics.jsonl'))
  except ValueError:
    return None


def newest_files(run: Path) -> list[Path]:
  """The files of a run's newest checkpoint; none if it has no checkpoint."""
  folder = run / 'checkpoints'
  steps = [x for x in folder.iterdir() if x.name.isdigit()] if folder.is_dir() else []
  newest = max(steps, key=lambda x: int(x.name), default=None)
  return sorted(x for x in newest.rglob('*') if x.is_file()) if newest else []


def flip(path: Path, drawn: random.Random) -> None:
  """Flips one bit of a file."""
  content = bytearray(path.read_bytes())
  content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
  path.write_bytes(content)


class Trial:
  """Runs of a job to which things happen, one at a time; `rows` says what came of them."""

  def __init__(self, work: Job, oracle: Path, seconds: float, seed: int):
    self.rows: dict[str, ChaosRow] = {}
    self.problems: list[str] = []
    self.finished = 0
    self._work, self._oracle, self._seconds = work, oracle, seconds
    self._random = random.Random(seed)
    self._number = 0
    self._happened: list[str] = []

  @property
  def run(self) -> Path:
    """The directory of the run to which things happen now."""
    return self._work.runs / str(self._number)

  def happen(self, kind: str) -> None:
    """Starts the command, lets something happen, and sees how it ends."""
    row = self.rows.setdefault(kind, {'times': 0, 'too_late': 0, 'unexpected': 0})
    row['times'] += 1
    self._happened.append(kind)
    ended, expected = KINDS[kind](self)
    if ended is None or (ended.status == 0 and 0 not in expected):
      row['too_late'] += 1
    elif ended.status not in expected:
      row['unexpected'] += 1
      self.problems.append(f'{kind}: status {ended.status}, expected {expected}: {ended.said}')
    if rundir.read_result(self.run):
      self.close()

  def close(self) -> None:
    """Finishes the run by the same command, and compares it with the one nothing happened to."""
    ended = complete(self._work.command(self.run))
    if ended.status:
      self.problems.append(f'not finished after {self._happened}: {ended.said}')
    elif differing := differences(self.run, self._oracle):
      self.problems.append(f'differs after {self._happened} in {", ".join(differing)}')
    else:
      shutil.rmtree(self.run)
    self.finished += not ended.status
    self._number += 1
    self._happened = []

  def interrupted(self, name: str) -> tuple[Ended | None, Sequence[int]]:
    """Sends a signal at a random moment."""
    begun, process = time.monotonic(), start(self._work.command(self.run))
    time.sleep(self._random.uniform(0, self._seconds))
    process.send_signal(getattr(signal, name))
    # Before Python has set its handlers, a signal ends a process by itself.
    return wait(process, begun), (SIGNALS[name], -getattr(signal, name))

  def damaged(self) -> tuple[Ended | None, Sequence[int]]:
    """Kills the run, and flips a bit of its newest checkpoint."""
    ended = self.interrupted('SIGKILL')
    files = [path for path in newest_files(self.run) if path.stat().st_size]
    if files and not rundir.read_result(self.run):
      flip(self._random.choice(files), self._random)
    return ended

  def full(self) -> tuple[Ended | None, Sequence[int]]:
    """Fills the disk at a random moment, until the process has ended."""
    begun, process = time.monotonic(), start(self._work.command(self.run))
    time.sleep(self._random.uniform(0, self._seconds))
    filler = self._work.runs / 'filler'
    room = self._random.randrange(1 << 16)
    with contextlib.suppress(OSError), filler.open('wb', buffering=0) as file:
      while (free := shutil.disk_usage(self._work.runs).free) > room:
        file.write(bytes(free - room))
    ended = wait(process, begun)
    filler.unlink()
    return ended, (1,)

  def changed(self) -> tuple[Ended | None, Sequence[int]]:
    """Kills the run, and starts it once with one of its input files changed: it has to name it."""
    self.interrupted('SIGKILL')
    if not (self.run / provenance.FILE).exists() or rundir.read_result(self.run):
      return None, ()  # Nothing is on record yet, or nothing is left to do.
    inputs = self._work.inputs
    data = sorted((inputs / 'SST-2').iterdir())
    weights, vocabulary = inputs / 'base' / 'model.safetensors', inputs / 'tokenizer' / 'vocab.txt'
    path = self._random.choice([weights, vocabulary, *data])
    kept = path.read_bytes()
    if path == weights:
      flip(path, self._random)
    else:  # The last two lines change places.
      *lines, one, other = kept.splitlines(keepends=True)
      path.write_bytes(b''.join([*lines, other, one]))
    ended = complete(self._work.command(self.run))
    path.write_bytes(kept)
    named = path.name in ended.said or ended.status == 0
    return ended if named else ended._replace(status=UNNAMED), (1,)

  def second(self) -> tuple[Ended | None, Sequence[int]]:
    """Starts the command a second time while the first one runs: the second has to be refused."""
    begun, process = time.monotonic(), start(self._work.command(self.run))
    time.sleep(self._random.uniform(0, self._seconds))
    second = complete(self._work.command(self.run))
    first = wait(process, begun)
    if first.status:
      return first, (0,)
    return second, (1,)


KINDS: dict[str, Callable[[Trial], tuple[Ended | None, Sequence[int]]]] = {
  **{name: (lambda trial, name=name: trial.interrupted(name)) for name in SIGNALS},
  'flipped bit': Trial.damaged,
  'full disk': Trial.full,
  'changed input': Trial.changed,
  'second process': Trial.second,
}


def trial(folder: Path, counts: Mapping[str, int], seed: int, show: Callable[[str], None]) -> Chaos:
  """Does all of it: the job, the run that nothing happens to, and what happens, in random order.

  Args:
    folder: a new folder.
    counts: how often each kind of `KINDS` happens.
    seed: of the moments, the bits and the order.
    show: is told of each thing that happened.
  """
  runs = folder / 'runs'
  runs.mkdir(parents=True)
  with small_disk(runs) if counts.get('full disk') else contextlib.nullcontext():
    work = make_job(folder, runs)
    oracle = folder / 'oracle'
    complete(work.command(folder / 'warm'))  # Its programs are compiled and kept.
    alone = complete(work.command(oracle))
    if alone.status:
      raise ValueError(f'the job does not run: {alone.said}')
    happened = Trial(work, oracle, alone.seconds, seed)
    order = [kind for kind, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(order)
    for number, kind in enumerate(order):
      happened.happen(kind)
      show(f'{number + 1}/{len(order)} {kind}: {len(happened.problems)} problems')
    happened.close()
  return {
    'seconds': alone.seconds,
    'rows': happened.rows,
    'finished': happened.finished,
    'problems': happened.problems,
  }


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
  """Makes the folder a disk of `DISK` bytes in memory, inside the block.

  Raises:
    OSError: if this process may not mount one.
  """
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={DISK}', 'tmpfs', str(folder)]
  made = subprocess.run(mount, capture_output=True, text=True, check=False)
  if made.returncode:
    raise OSError(
      f'{folder}: cannot mount a disk that can be filled ({made.stderr.strip()}). Run as root, or '
      'leave full disks out: --full_disks=0'
    )
  try:
    yield
  finally:
    subprocess.run(['umount', '-l', str(folder)], check=False)
