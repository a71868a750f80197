"""Signals: what a run does before it ends, and that every command ends in one line, at once."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lora_jax.train import signals
from tests.train.conftest import BROKEN
from tests.train.runs import assert_same_run, start, wait_for_step

ROOT = Path(__file__).resolve().parents[2]
BOTH = pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])


def run(code):
  """A process that runs this code and has printed `ready`."""
  lines = 'import signal, sys, time\nfrom lora_jax.train import signals\n' + code
  process = subprocess.Popen(
    [sys.executable, '-c', lines],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'ready\n'
  return process


def ended(process):
  """(status, lines of the standard error) of a process that ends by itself."""
  _, errors = process.communicate(timeout=60)
  return process.returncode, errors.strip().splitlines()


@BOTH
def test_a_run_is_saved_and_the_same_command_ends_as_if_nothing_had_been(
  number, tmp_path, whole, make_config
):
  workdir = tmp_path / 'run'
  process = start(make_config(**BROKEN, **{'checkpoint.every_steps': 4}), workdir)
  wait_for_step(workdir, 5, process)
  process.send_signal(number)
  status, lines = ended(process)
  assert status == 128 + number, lines
  step = int(
    re.fullmatch(rf'saved step (\d+) in {workdir}; the same command resumes', lines[-1])[1]
  )
  assert (workdir / 'checkpoints' / str(step) / 'step.json').exists()
  assert not any('Traceback' in line for line in lines)
  assert not (workdir / 'locks').exists()
  process = start(make_config(**BROKEN, **{'checkpoint.every_steps': 4}), workdir)
  output, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors
  assert f'resumed at step {step} of ' in output
  assert_same_run(whole, workdir)


COMMAND = """
import hashlib
from experiments import _cli
def main():
  print('ready', flush=True)
  {}
sys.argv = ['x']
_cli.run(main)
"""


@BOTH
# The second one, as a compilation, runs no Python and so no handler of a signal.
@pytest.mark.parametrize(
  'what', ['time.sleep(60)', 'hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)']
)
def test_a_command_that_has_nothing_to_save_ends_at_once_in_one_line(number, what):
  process = run(COMMAND.format(what))
  began = time.monotonic()
  process.send_signal(number)
  assert ended(process) == (128 + number, [f'error: ended by {number.name}'])
  assert time.monotonic() - began < 5


@BOTH
def test_a_second_signal_ends_a_run_at_once(number):
  process = run(
    'with signals.stopping() as stop:\n  print("ready", flush=True)\n  time.sleep(60)\n'
  )
  process.send_signal(number)
  assert 'the next one ends it at once' in process.stderr.readline() + process.stderr.readline()
  process.send_signal(number)
  status, lines = ended(process)
  assert status == 128 + number
  assert lines[-1].startswith(f'error: ended by {number.name} before the state was saved')


def test_a_run_that_does_not_come_to_save_ends_and_one_that_saves_takes_its_time():
  code = (
    'signals.GRACE_SECONDS = 0.3\n'
    'with signals.stopping() as stop:\n'
    '  {}\n  print("ready", flush=True)\n  time.sleep(2)\nsys.exit(7)\n'
  )
  for doing, expected in (('pass', 130), ('stop.saving.set()', 7)):
    process = run(code.format(doing))
    process.send_signal(signal.SIGINT)
    status, lines = ended(process)
    assert status == expected, lines


def test_a_stop_is_set_inside_the_block_alone():
  before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
  with signals.stopping() as stop:
    assert not stop.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.is_set() and stop.saved(3, 'x') == 143
  assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
  found = []

  def other():
    with signals.stopping() as stop:
      found.append((stop.is_set(), signal.getsignal(signal.SIGTERM) is before[1]))

  thread = threading.Thread(target=other)  # Where no signal arrives.
  thread.start()
  thread.join()
  assert found == [(False, True)]
