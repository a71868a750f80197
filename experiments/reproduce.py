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
task with the first seed, and trains the other seeds at the best (`configs/compare.py`).

Each run is a command of its own (`experiments.train`, or `experiments.sweep` where runs can share a
program) whose output is in `WORKDIR/logs`. One that fails is reported at the end and tried again at
the next start.
"""

import json
import socket
import time
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags

from configs import _base, compare, dart, e2e, glue, gpt3, low_data, matrices, rank, webnlg
from experiments import _children, _cli
from lora_jax import files, provenance
from lora_jax.cost import shapes
from lora_jax.reproduce import answers, order, own, plan, units
from lora_jax.reproduce.table import Table
from lora_jax.reproduce.timing import Machine
from lora_jax.sweep import overrides
from lora_jax.train import locks, paths, signals, writers

TABLE = flags.DEFINE_string('table', '', 'Number of a table of the paper.')
FIGURE = flags.DEFINE_string('figure', '', 'Number of a figure of the paper, in place of a table.')
DATA_DIR = flags.DEFINE_string('data_dir', '', 'Folder of the official archives, or their files.')
MODEL = flags.DEFINE_string(
  'model', '', "Another base than the paper's: a folder, GGUF file, run directory or preset."
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

WAIT = 5.0  # Seconds.
CONFIGS: dict[str, units.Config] = {
  'compare': compare,
  'dart': dart,
  'e2e': e2e,
  'glue': glue,
  'gpt3': gpt3,
  'low_data': low_data,
  'matrices': matrices,
  'rank': rank,
  'webnlg': webnlg,
}


class Problem(NamedTuple):
  """Why a unit was not finished by this start of the command."""

  said: str
  is_failure: bool


def main() -> None:
  begun = time.monotonic()
  if bool(TABLE.value) == bool(FIGURE.value):
    raise ValueError('expected one of --table=N and --figure=N, as --table=3')
  kind = 'table' if TABLE.value else 'figure'
  number = TABLE.value or FIGURE.value
  if answer := answers.check(kind, number):
    print(answer)
    return
  shard = overrides.parse_shard(SHARD.value)
  probe = _children.begin_probe()
  jax.config.update('jax_platforms', 'cpu')  # An accelerator's memory is for the children.
  table = make_table(kind, number)
  machine = _children.end_probe(probe)
  entries = table.entries(machine)
  reasons = [entry.unit.why_not for entry in entries]
  if all(reasons):
    raise ValueError(f'nothing of {kind} {number} can be run: {reasons[0]}')
  print(*plan.lines(entries, machine), sep='\n', flush=True)
  if not DRY_RUN.value:
    deadline = begun + 60 * BUDGET.value if BUDGET.value else 0.0
    train(table, machine, shard, deadline)


def make_table(kind: str, number: str) -> Table:
  """The table that the flags ask for.

  Raises:
    ValueError: if they do not say where the data is.
  """
  base = MODEL.value.rstrip('/').rpartition('/')[2].removesuffix('.gguf') or 'paper'
  workdir = Path(WORKDIR.value or f'runs/{kind}-{number}-{base}')
  if paths.on_bucket(WORKDIR.value):
    raise ValueError(f'--workdir={WORKDIR.value}: expected a folder on a disk; sweeps need one')
  choice = units.Choice(
    MODEL.value, tuple(TASKS.value), tuple(METHODS.value), SEEDS.value, TINY.value
  )
  data_dir = DATA_DIR.value or recorded_data_dir(workdir)
  if not data_dir and not DRY_RUN.value and (kind, number) not in (('table', '1'), ('figure', '5')):
    raise ValueError("--data_dir: expected the folder of the tasks' official archives")
  given = units.parse_fields(SET.value) | ({'data.dir': data_dir} if data_dir else {})
  architecture = None
  if MODEL.value and MODEL.value != 'fresh':
    config = _base.base()
    config.model.name = MODEL.value
    architecture = shapes.architecture(config)
  searches = lambda: searches_in(workdir, MODEL.value)
  return Table(kind, number, choice, workdir, CONFIGS, given, searches, architecture)


def recorded_data_dir(workdir: Path) -> str:
  """The folder of the data that the runs of a workdir were made with; '' if it has none."""
  for path in (*workdir.glob('*/config.json'), *workdir.glob('*/*/config.json')):
    return str(files.read_object(path)['data']['dir'])
  return ''


def searches_in(workdir: Path, model: str) -> own.Searches:
  """How far the searches of rates are whose runs are in a workdir."""
  finished = compare.read_finished(str(workdir), model) if workdir.is_dir() else []

  def search(task: str, method: str) -> own.Search:
    _base.check('method of a comparison', method, _base.RATES)
    section, grid = json.loads(json.dumps(compare.section_of(method))), _base.RATES[method]
    runs = [x for x in finished if (x.task, x.seed, x.section) == (task, 0, section)]
    scores = {run.lr: run.score for run in runs}
    if not scores.keys() >= set(grid):
      return own.Search((), None, None)
    following = compare.next_rate(scores, grid)
    best = None if following else max(scores, key=lambda rate: scores[rate])
    return own.Search(tuple(rate for rate in scores if rate not in grid), following, best)

  return search


def train(table: Table, machine: Machine, shard: tuple[int, int], deadline: float) -> None:
  """Trains what is left of a table, keeps the results and writes the pages.

  Raises:
    ValueError: at the end, if runs failed.
    SystemExit: after SIGINT or SIGTERM, as a single run does.
  """
  passed: dict[str, Problem] = {}  # Units that are not tried again now.
  with signals.stopping() as stop:
    while True:
      entries = table.entries(machine)
      left = deadline - time.monotonic() if deadline else float('inf')
      entry = order.following(entries, shard, passed, left)
      if entry is None or stop.is_set():
        break
      if problem := train_unit(table, entry, entries, stop, deadline):
        passed[entry.unit.name] = problem
        print(f'{entry.unit.name}: {problem.said}', flush=True)
    if stop.is_set():
      print('the same command resumes', flush=True)
      raise SystemExit(stop.status)
  write_pages(table, entries)
  print(plan.summary(entries, machine))
  if deadline and any(not entry.is_finished for entry in order.of_shard(entries, shard)):
    print(f'--budget_minutes={BUDGET.value:g} is used up, or too short for what is left')
  if failed := [f'  {name}: {x.said}' for name, x in passed.items() if x.is_failure]:
    raise ValueError('\n'.join([f'{len(failed)} failed; the same command tries again', *failed]))


def train_unit(
  table: Table,
  entry: order.Entry,
  entries: list[order.Entry],
  stop: signals.Stop,
  deadline: float,
) -> Problem | None:
  """Trains one unit, unless another process does; returns why it is not finished."""
  unit, workdir = entry.unit, table.workdir
  with locks.Locks(workdir / locks.FOLDER) as owner:
    if not owner.take(unit.name):
      return Problem(f'it is trained by {owner.owner(unit.name)}', is_failure=False)
    if held := wait_for_others(table, entry, stop, deadline):
      return Problem(f'it is trained by {held}', is_failure=False)
    if is_finished(table, entry):
      return None
    seconds = sum(x.seconds or 0.0 for x in entry.estimates.values())
    expected = f', about {seconds / 60:.1f} minutes' if seconds else ''
    log = workdir / 'logs' / f'{unit.name}.log'
    print(f'{unit.name}: begins{expected}; its output is in {log}', flush=True)
    runs = {folder: config for one in entries for folder, config in one.runs.items()}
    folder = _children.ROOT / 'configs'
    command = units.command_line(unit, runs, table.given, str(folder), str(workdir))
    command += [provenance.FLAG] * _cli.ALLOW_CHANGED_INPUTS.value
    before = time.monotonic()
    ended = _children.run(command, log, stop, deadline)
    minutes = (time.monotonic() - before) / 60
    if not ended.status and is_finished(table, entry):
      print(f'{unit.name}: finished in {minutes:.1f} minutes', flush=True)
      return None
    if ended.timed_out or stop.is_set():
      return Problem(f'saved after {minutes:.1f} minutes ({ended.said})', is_failure=False)
    said = ended.said if ended.status else 'it ended and left runs that are not finished'
    return Problem(f'FAILED: {said} (status {ended.status}, {log})', is_failure=True)


def is_finished(table: Table, entry: order.Entry) -> bool:
  """Whether all runs of an entry are finished now."""
  return all(state.is_finished for state in table.states(entry.unit, entry.runs).values())


def wait_for_others(
  table: Table, entry: order.Entry, stop: signals.Stop, deadline: float
) -> locks.Owner | None:
  """Waits while a process of this machine trains one of a unit's runs; returns who still does.

  A start of this command that was killed leaves its child, which ends what it has begun.
  """
  is_said = False
  while held := [x.owner for x in table.states(entry.unit, entry.runs).values() if x.owner]:
    is_late = bool(deadline) and time.monotonic() > deadline
    if held[0].process.get('host') != socket.gethostname() or stop.is_set() or is_late:
      return held[0]
    if not is_said:
      print(f'{entry.unit.name}: waiting for {held[0]}', flush=True)
    is_said = True
    time.sleep(WAIT)
  return None


def write_pages(table: Table, entries: list[order.Entry]) -> None:
  """Keeps what is finished and writes the pages, as `experiments.report --add` does."""
  finished = [
    (entry.unit, table.workdir / entry.unit.name)
    for entry in entries
    if any(state.what == 'finished' for state in entry.states.values())
  ]
  if not finished:
    return
  folder = Path(FOLDER.value)
  for unit, where in finished:
    if unit.command == 'latency':
      kept = folder / 'runs' / f'latency-{table.workdir.name}.json'
      kept.parent.mkdir(parents=True, exist_ok=True)
      writers.write_json(kept, files.read_object(where / 'latency.json'))
  add = [f'--add={where}' for unit, where in finished if unit.command != 'latency']
  log = table.workdir / 'logs' / 'report.log'
  ended = _children.run(['experiments.report', f'--folder={folder}', *add], log)
  if ended.status:
    raise ValueError(f'the pages could not be written: {ended.said} ({log})')
  print(f'pages: {folder}/README.md')


if __name__ == '__main__':
  _cli.run(main)
