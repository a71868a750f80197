"""What `experiments.reproduce` does with its flags: the plan, the children, the pages."""

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from configs import (
  _base,
  compare,
  dart,
  e2e,
  glue,
  gpt3,
  low_data,
  matrices,
  rank,
  rates,
  sizes,
  webnlg,
)
from experiments import _children, _cli
from lora_jax import files, provenance
from lora_jax.reproduce import answers, order, own, plan, units
from lora_jax.reproduce.table import LATENCY, Table
from lora_jax.reproduce.timing import Machine
from lora_jax.train import base_options, locks, paths, signals, writers

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
  'rates': rates,
  'sizes': sizes,
  'webnlg': webnlg,
}


class Request(NamedTuple):
  """What a user asks for.

  Attributes:
    kind, number: `table`, `3`.
    choice: model, tasks, methods and seeds.
    fields: of the config of all runs, by their dotted names.
    data_dir: the folder of the data; '' takes that of the runs in the workdir.
    workdir: the folder of the runs; '' is named by table and model.
    folder: where the results and pages are kept.
    shard: (i, n): part i of the n parts of the table is trained.
    budget_minutes: when it ends; 0 is never.
    is_dry: only the plan is printed.
  """

  kind: str
  number: str
  choice: units.Choice
  folder: Path
  fields: Mapping[str, object] = units.NOTHING
  data_dir: str = ''
  workdir: str = ''
  shard: tuple[int, int] = (0, 1)
  budget_minutes: float = 0.0
  is_dry: bool = False


class Problem(NamedTuple):
  """Why a unit was not finished by this start of the command."""

  said: str
  is_failure: bool


def reproduce(request: Request) -> None:
  """Prints the plan of a table, trains what is left of it and writes the pages.

  Raises:
    ValueError: for a request that does not fit the paper or the model; at the end, if runs failed.
    SystemExit: after SIGINT or SIGTERM, as a single run does.
  """
  begun = time.monotonic()
  if answer := answers.check(request.kind, request.number):
    print(answer)
    return
  probe = _children.begin_probe()
  jax.config.update('jax_platforms', 'cpu')  # An accelerator's memory is for the children.
  table = make_table(request)
  machine = _children.end_probe(probe)
  entries = table.entries(machine)
  reasons = [entry.unit.why_not for entry in entries]
  if all(reasons):
    raise ValueError(f'nothing of {request.kind} {request.number} can be run: {reasons[0]}')
  print(*plan.lines(entries, machine), sep='\n', flush=True)
  if not request.is_dry:
    minutes = request.budget_minutes
    train(table, machine, request, begun + 60 * minutes if minutes else 0.0)


def make_table(request: Request) -> Table:
  """The table that is asked for.

  Raises:
    ValueError: if it is not known where the data is; for a model that is not found, or a task or
      a method that is named twice.
    FileNotFoundError: if there is no such folder of data.
  """
  kind, number, model = request.kind, request.number, request.choice.model
  base = model.rstrip('/').rpartition('/')[2].removesuffix('.gguf')
  base = '-'.join(filter(None, (request.choice.paper, base))) or 'paper'
  for flag, names in (('tasks', request.choice.tasks), ('methods', request.choice.methods)):
    if twice := [name for name in names if names.count(name) > 1]:
      raise ValueError(f'--{flag}={",".join(names)} names {twice[0]!r} twice')
  if paths.on_bucket(request.workdir):
    raise ValueError(f'--workdir={request.workdir}: expected a folder on a disk; sweeps need one')
  workdir = Path(request.workdir or f'runs/{kind}-{number}-{base}')
  data_dir = request.data_dir or recorded_data_dir(workdir)
  if not data_dir and not request.is_dry and (kind, number) not in LATENCY:
    raise ValueError("--data_dir: expected the folder of the tasks' official archives")
  if data_dir and not request.is_dry and not paths.path_of(data_dir).is_dir():
    raise FileNotFoundError(
      f"--data_dir={data_dir} is not a folder: give that of the tasks' official archives"
    )
  given = {**request.fields} | ({'data.dir': data_dir} if data_dir else {})
  architecture = None
  if model and model != 'fresh':
    config = _base.base()
    config.model.name = model
    architecture = base_options.architecture(config)
  searches = lambda: searches_in(workdir, model)
  return Table(kind, number, request.choice, workdir, CONFIGS, given, searches, architecture)


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


def train(table: Table, machine: Machine, request: Request, deadline: float) -> None:
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
      entry = order.following(entries, request.shard, passed, left)
      if entry is None or stop.is_set():
        break
      if problem := train_unit(table, entry, entries, stop, deadline):
        passed[entry.unit.name] = problem
        print(f'{entry.unit.name}: {problem.said}', flush=True)
    if stop.is_set():
      print('the same command resumes', flush=True)
      raise SystemExit(stop.status)
  write_pages(table, entries, request.folder)
  print(plan.summary(entries, machine))
  if deadline and any(not entry.is_finished for entry in order.of_shard(entries, request.shard)):
    print(f'--budget_minutes={request.budget_minutes:g} is used up, or too short for what is left')
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


def write_pages(table: Table, entries: list[order.Entry], folder: Path) -> None:
  """Keeps what is finished and writes the pages, as `experiments.report --add` does."""
  finished = [
    (entry.unit, table.workdir / entry.unit.name)
    for entry in entries
    if any(state.what == 'finished' for state in entry.states.values())
  ]
  if not finished:
    return
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
