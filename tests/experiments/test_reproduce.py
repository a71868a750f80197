"""The command trains what is left, in order, and one run's failure stops no other."""

import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from absl import flags

from experiments import _children, _tables
from lora_jax.reproduce import units
from lora_jax.train import locks, signals
from tests.reproduce.toys import MACHINE, finish

ROOT = _children.ROOT
ORDER = ['lora-seed-0', 'full-seed-0', 'lora-seed-1', 'full-seed-1']


class Started:
  """What the command starts: a run is finished at once, or fails with the words of `fails`."""

  def __init__(self, request):
    self.request, self.table = request, None
    self.runs, self.reports, self.fails = [], [], {}

  def run(self, **changes):
    """Runs the command with some of its flags changed."""
    of_choice = {key: changes.pop(key) for key in units.Choice._fields if key in changes}
    choice = self.request.choice._replace(**of_choice)
    _tables.reproduce(self.request._replace(choice=choice, **changes))

  def __call__(self, arguments, log, stop=None, deadline=0.0):
    if arguments[0] == 'experiments.report':
      self.reports.append(arguments)
      return _children.Ended(0, '', False)
    name = next(x for x in arguments if x.startswith('--workdir=')).rpartition('/')[2]
    self.runs.append(name)
    if name in self.fails:
      return _children.Ended(1, self.fails[name], False)
    self.table = self.table or _tables.make_table(self.request)
    for entry in self.table.entries(MACHINE):
      for folder, config in entry.runs.items() if entry.unit.name == name else ():
        finish(self.table.workdir / folder, config)
    return _children.Ended(0, '', False)


@pytest.fixture
def started(monkeypatch, tmp_path):
  flags.FLAGS.mark_as_parsed()
  choice = units.Choice(model='fresh', methods=('lora', 'full'), seeds=2, tiny=True)
  (tmp_path / 'data').mkdir()
  places = dict(
    workdir=str(tmp_path / 'runs'), folder=tmp_path / 'pages', data_dir=str(tmp_path / 'data')
  )
  found = Started(_tables.Request('table', '3', choice, **places))
  monkeypatch.setattr(_children, 'run', found)
  monkeypatch.setattr(_children, 'begin_probe', lambda: None)
  monkeypatch.setattr(_children, 'end_probe', lambda probe: MACHINE)
  return found


def test_every_run_is_started_once_and_kept(started, tmp_path, capsys):
  started.run()
  assert started.runs == ORDER
  (report,) = started.reports
  runs = tmp_path / 'runs'
  assert report[1:] == [f'--folder={tmp_path}/pages', *(f'--add={runs}/{x}' for x in ORDER)]
  assert '0 of 4 finished; 4 left' in capsys.readouterr().out
  started.run(data_dir='')  # The folder of the data is that of the runs.
  assert started.runs == ORDER and len(started.reports) == 2
  assert '4 of 4 finished; 0 left' in capsys.readouterr().out


def test_a_failure_is_reported_at_the_end_and_tried_again(started, capsys):
  started.fails = {'lora-seed-0': 'error: OSError: the disk is full'}
  with pytest.raises(ValueError, match='1 failed; the same command tries again') as failed:
    started.run()
  assert 'lora-seed-0: FAILED: error: OSError: the disk is full' in str(failed.value)
  assert started.runs == ORDER and len(started.reports) == 1
  started.fails = {}
  started.run()
  assert started.runs == [*ORDER, 'lora-seed-0']


def test_a_child_that_ends_without_a_result_is_not_started_for_ever(started, monkeypatch):
  monkeypatch.setattr('tests.experiments.test_reproduce.finish', lambda *_: None)
  with pytest.raises(ValueError, match='4 failed') as failed:
    started.run()
  assert started.runs == ORDER and 'left runs that are not finished' in str(failed.value)


def test_a_budget_that_is_too_small_starts_nothing_and_says_so(started, tmp_path, capsys):
  started.run(budget_minutes=0.05)
  assert started.runs == [] == started.reports
  assert '--budget_minutes=0.05 is used up, or too short' in capsys.readouterr().out
  started.run(budget_minutes=1e6)
  assert started.runs == ORDER


def test_shards_train_every_run_once(started):
  for shard in ((1, 2), (0, 2), (0, 2)):
    started.run(shard=shard)
  assert sorted(started.runs) == sorted(ORDER) and started.runs[0] == ORDER[1]


def test_what_another_start_of_the_command_trains_is_left_to_it(started, tmp_path, capsys):
  with locks.Locks(tmp_path / 'runs/locks') as other:
    assert other.take('full-seed-0')
    started.run()
  assert started.runs == [x for x in ORDER if x != 'full-seed-0']
  assert 'full-seed-0: it is trained by process' in capsys.readouterr().out


def test_what_a_killed_start_has_left_running_is_waited_for(started, tmp_path, capsys, monkeypatch):
  with locks.Locks(tmp_path / 'runs/lora-seed-0/locks') as orphan:
    assert orphan.take('run')
    monkeypatch.setattr(_tables.time, 'sleep', lambda seconds: orphan.release())
    started.run()
  assert started.runs == ORDER
  assert 'lora-seed-0: waiting for process' in capsys.readouterr().out


def test_a_dry_run_reads_config_json_alone_and_writes_nothing(started, tmp_path, capsys):
  base = tmp_path / 'base'
  base.mkdir()
  golden = ROOT / 'tests/golden/models/llama/config.json'
  (base / 'config.json').write_text(golden.read_text())
  choice = dict(model=str(base), methods=('lora', 'bitfit'), tiny=False)
  started.run(is_dry=True, data_dir='', fields={'data.max_length': 8}, **choice)
  out = capsys.readouterr().out
  assert 'lora    0     to run' in out and 'not run:' in out
  assert started.runs == [] and not (tmp_path / 'runs').exists()


def test_a_number_without_runs_is_answered(started, capsys):
  started.run(number='9')
  assert capsys.readouterr().out.startswith('Table 9 holds the settings of RoBERTa')


def test_mistakes(started):
  for given, message in (
    (dict(number='33'), 'the paper has no such table'),
    (dict(number='2', methods=('lroa',)), "unknown method of a comparison 'lroa'.*lora"),
    (dict(methods=('lora', 'full', 'lora')), "--methods=lora,full,lora names 'lora' twice"),
    (dict(tasks=('e2e', 'e2e')), "--tasks=e2e,e2e names 'e2e' twice"),
    (dict(data_dir=''), '--data_dir: expected the folder'),
    (dict(data_dir='/nowhere'), '--data_dir=/nowhere is not a folder'),
    (dict(workdir='gs://bucket/x'), 'expected a folder on a disk'),
    (dict(model='smollm'), 'neither a preset nor a folder'),
    (dict(model='tests/golden/models/bert'), 'nothing of table 3 can be run: .*bert model'),
  ):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
      started.run(**given)
  assert started.runs == []


def test_the_flags_become_a_request():
  command = [sys.executable, '-m', 'experiments.reproduce']
  for flags_given, words in (
    (['--table=3', '--figure=3'], 'expected one of --table=N and --figure=N'),
    (['--table=3', '--shard=2/2'], 'expected i/n'),
    (['--table=12', '--seeds=2'], 'Table 12 holds the settings of GPT-3'),
  ):
    done = subprocess.run([*command, *flags_given], capture_output=True, text=True, cwd=ROOT)
    assert words in done.stdout + done.stderr and 'Traceback' not in done.stderr


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print('saved step 3', flush=True), sys.exit(143)))
print('begun', flush=True)
time.sleep(60 if len(sys.argv) < 2 else 0)
sys.exit(len(sys.argv[1]) if len(sys.argv) > 1 else 0)
"""


@pytest.fixture
def sleeper(tmp_path, monkeypatch):
  (tmp_path / 'sleeper.py').write_text(textwrap.dedent(SLEEPER))
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  return tmp_path / 'logs/a.log'


def when_begun(log, then):
  """Calls `then` when the child has begun."""

  def wait():
    while not (log.exists() and 'begun' in log.read_text()):
      time.sleep(0.05)
    then()

  threading.Thread(target=wait, daemon=True).start()


def test_a_child_gets_a_signal_and_ends_in_its_own_time(sleeper):
  stop = signals.Stop()
  when_begun(sleeper, lambda: stop.set(signal.SIGINT))
  ended = _children.run(['sleeper'], sleeper, stop)
  assert ended == _children.Ended(143, 'saved step 3', False)
  assert stop.saving.is_set() and stop.status == 130


def test_a_child_is_ended_when_the_time_is_up(sleeper):
  ended = _children.run(['sleeper'], sleeper, None, time.monotonic() + 2)
  assert (ended.status, ended.timed_out) in ((143, True), (-15, True))


def test_a_log_that_cannot_be_written_is_named(sleeper, full_disk):
  with pytest.raises(OSError, match=r'while writing .*logs/a\.log'):
    _children.run(['sleeper'], sleeper)


def test_a_child_that_fails_says_its_last_words(sleeper):
  ended = _children.run(['sleeper', 'xy'], sleeper)
  assert ended == _children.Ended(2, 'begun', False)
  assert _children.run(['sleeper', ''], sleeper).status == 0
  assert sleeper.read_text().count('$ python -m sleeper') == 2
