"""Several processes are one run: the same numbers, one writer, and one end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.train import curve, hosts, job, loop

ROOT = Path(__file__).resolve().parents[2]
EXACT = 1e-5  # Devices add up in another order.


def start(*commands):
  """Starts processes that share a free port of this machine; `ended` reads their output."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    coordinator = f'127.0.0.1:{probe.getsockname()[1]}'
  fast = '--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0'
  own = {'PYTHONPATH': str(ROOT), 'JAX_NUM_CPU_DEVICES': '1', 'XLA_FLAGS': fast}
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  return [
    subprocess.Popen(
      [sys.executable, *(word.replace('COORDINATOR', coordinator) for word in command)],
      cwd=ROOT,
      env=os.environ | own,
      **pipes,
    )
    for command in commands
  ]


def ended(process, timeout=600):
  """(status, standard output, standard error)."""
  try:
    return (*process.communicate(timeout=timeout), process.returncode)[::-1]
  finally:
    process.kill()


def assert_close(actual, expected, where=''):
  """Numbers to `EXACT`, all else equal."""
  if isinstance(expected, dict):
    assert actual.keys() == expected.keys(), where
    for key in expected:
      assert_close(actual[key], expected[key], f'{where}/{key}')
  elif isinstance(expected, list):
    assert len(actual) == len(expected), where
    for i, (ours, theirs) in enumerate(zip(actual, expected)):
      assert_close(ours, theirs, f'{where}/{i}')
  elif isinstance(expected, float):
    np.testing.assert_allclose(actual, expected, rtol=EXACT, atol=EXACT, err_msg=where)
  else:
    assert actual == expected, where


ENCODER = {'train.batch_size': 8, 'train.steps_per_call': 2, 'train.eval_batch_size': 8}
LANGUAGE = {
  **{'train.batch_size': 8, 'train.epochs': 1, 'optim.lr': 2e-2},
  **{'decode.beams': 2, 'decode.max_tokens': 12, 'decode.batch_size': 16, 'decode.final': 'test'},
}
SPLIT_BASE = {'mesh.data': 1, 'mesh.fsdp': 2}
RUNS = [
  pytest.param('make_config', ENCODER, SPLIT_BASE, id='encoder'),
  pytest.param(
    'make_language_model', LANGUAGE, {'mesh.data': -1}, id='language', marks=pytest.mark.slow
  ),
]


@pytest.mark.parametrize(('make', 'values', 'devices'), RUNS)
def test_two_processes_compute_the_run_of_one(tmp_path, request, make, values, devices):
  """Trained, evaluated and decoded; the encoder's last batches are ragged."""
  make = request.getfixturevalue(make)
  (tmp_path / 'run.json').write_text(make(**values, **devices).to_json_best_effort())
  script = ['tests/train/process.py', 'COORDINATOR']
  for process in start([*script, '0', str(tmp_path)], [*script, '1', str(tmp_path)]):
    status, errors, output = ended(process)
    assert status == 0, errors
    assert '[Gloo]' not in output  # A command's JSON is all that it prints.
  first, second = (json.loads((tmp_path / f'report-{i}').read_text())['run'] for i in range(2))
  config, folder = make(**values), tmp_path / 'run'
  alone = loop.train(config, tmp_path / 'alone')
  result = json.loads((folder / 'result.json').read_text())
  assert result == first['result']
  assert (result['hosts'], alone['hosts']) == (2, 1)
  assert result['device'].startswith('2 x')
  assert_close(result['history'], alone['history'])
  assert second['result']['history'] == result['history']
  trained, expected = (
    tree.flatten(job.load_run(run, 'last')[1]) for run in (folder, tmp_path / 'alone')
  )
  for path, leaf in expected.items():
    np.testing.assert_allclose(trained[path], leaf, atol=1e-4, err_msg=path)
  lines = curve.read(folder / 'metrics.jsonl')
  evaluations = [line for line in lines if not curve.is_point(line)]
  assert evaluations == result['history'] != lines  # Of one writer.
  assert first['evaluated'] == second['evaluated']
  assert first['evaluated']['largest_logit_difference'] < 1e-4
  for name, value in first['evaluated']['adapted'].items():
    np.testing.assert_allclose(value, result['best'][name], rtol=EXACT, err_msg=name)
  if config.decode.final:
    ours, theirs = (run / 'predictions-test.txt' for run in (folder, tmp_path / 'alone'))
    assert ours.read_text() == theirs.read_text()
    assert result['generated']['scores'] == alone['generated']['scores']
    assert 'scores' not in second['result']['generated']


@pytest.fixture
def command(tmp_path, make_config):
  """`command(workdir, process)`: experiments.train of a run that is long enough to be stopped."""
  values = {'train.epochs': 30, 'checkpoint.every_steps': 4, 'mesh.data': -1}
  config = make_config(**values, **{'model.hidden_dropout': 0.1})
  (tmp_path / 'config.py').write_text(
    'import json\nfrom ml_collections import config_dict\n'
    f'def get_config():\n  return config_dict.ConfigDict(json.loads({config.to_json()!r}))\n'
  )
  return lambda workdir, process: [
    *('-m', 'experiments.train'),
    *(f'--config={tmp_path / "config.py"}', f'--workdir={workdir}'),
    *('--coordinator=COORDINATOR', '--num_processes=2', f'--process_id={process}'),
  ]


def saved(workdir):
  """The steps that have a checkpoint."""
  return [int(p.name) for p in (workdir / 'checkpoints').glob('*') if p.name.isdigit()]


def wait_for_step(workdir, step, processes):
  while max(saved(workdir), default=0) < step:
    assert all(process.poll() is None for process in processes), [ended(x) for x in processes]
    time.sleep(0.02)


@pytest.mark.slow
def test_stopped_and_killed_together_the_run_ends_the_same(tmp_path, command):
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  for process in start(command(whole, 0), command(whole, 1)):
    assert ended(process)[0] == 0

  # SIGTERM to one: both save the same step and say so.
  processes = start(command(broken, 0), command(broken, 1))
  wait_for_step(broken, 8, processes)
  processes[1].send_signal(signal.SIGTERM)
  assert [ended(process)[0] for process in processes] == [143, 143]
  stopped = max(saved(broken))
  assert not (broken / 'result.json').exists()

  # kill -9 of one: the other ends within a minute, and says what to do.
  for victim in (1, 0):
    processes = start(command(broken, 0), command(broken, 1))
    wait_for_step(broken, stopped + 1, processes)
    processes[victim].kill()
    began = time.monotonic()
    status, errors, _ = ended(processes[1 - victim], 90)
    assert time.monotonic() - began < 60
    assert status == -signal.SIGABRT, errors  # And not 1: scripts start it again.
    assert f'process {1 - victim} of 2' in errors
    assert 'Start all processes again with the same command' in errors
    assert f'error: process {victim} of 2' in ended(processes[victim])[1]
    assert not (broken / 'result.json').exists()
    stopped = max(saved(broken))

  for process in start(command(broken, 0), command(broken, 1)):
    assert ended(process)[0] == 0
  ours, theirs = (json.loads((run / 'result.json').read_text()) for run in (broken, whole))
  for name in ('history', 'best', 'last', 'steps', 'padding'):
    assert ours[name] == theirs[name], name


WRONG = {
  '--process_id missing': ('host:1', 2, None),
  '--coordinator and --process_id missing': ('', 2, None),
  '--process_id=2: expected 0 to 1': ('host:1', 2, 2),
  '--process_id=-1: expected 0 to 1': ('host:1', 2, -1),
  '--num_processes=0: expected 1 or more': ('host:1', 0, 0),
  '--coordinator=host: expected HOST:PORT': ('host', 2, 0),
}


@pytest.mark.parametrize('message', WRONG)
def test_flags_that_do_not_fit(message):
  with pytest.raises(ValueError, match=message), hosts.connected(*WRONG[message]):
    pass


SLURM = {'SLURM_STEP_NODELIST': 'a,b', 'SLURM_NTASKS': '2'}
LAUNCHED = [
  ({}, None),
  (SLURM, 'SLURM'),
  ({**SLURM, 'SLURM_NTASKS': '1'}, None),
  ({'SLURM_NTASKS': '2'}, None),  # A batch script, before srun.
  ({'OMPI_COMM_WORLD_SIZE': '4', 'OMPI_COMM_WORLD_RANK': '1'}, 'Open MPI'),
  ({'KUBERNETES_SERVICE_HOST': 'x'}, None),
  ({'KUBERNETES_SERVICE_HOST': 'x', 'JOB_COMPLETION_INDEX': '0'}, 'Kubernetes'),
  ({'KUBERNETES_SERVICE_HOST': 'x', 'TPU_WORKER_HOSTNAMES': 'a,b'}, 'TPU'),
]


@pytest.mark.parametrize(('found', 'launcher'), LAUNCHED, ids=str)
def test_what_started_a_process(monkeypatch, found, launcher):
  known = [*hosts.TPU_HOSTS, *(name for names in hosts.LAUNCHERS.values() for name in names)]
  for name in (*known, 'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX', 'MEGASCALE_NUM_SLICES'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(hosts.importlib.util, 'find_spec', lambda name: None)  # No libtpu.
  for name, value in found.items():
    monkeypatch.setenv(name, value)
  assert hosts._launcher() == launcher


def test_a_launcher_that_jax_does_not_know_is_an_error(monkeypatch):
  """Open MPI 5 says nothing of where its first process is; each would train alone."""
  monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '2')
  monkeypatch.setenv('OMPI_COMM_WORLD_RANK', '0')
  monkeypatch.setattr(hosts.jax.distributed, 'initialize', unknown)
  with pytest.raises(ValueError, match='Open MPI started several') as error, hosts.connected():
    pass
  assert 'Give --coordinator=HOST:PORT' in str(error.value)
  with hosts.connected(num_processes=1):  # Each a run of its own.
    pass


def unknown(**_):
  raise ValueError('coordinator_address should be defined.')


class Exited(BaseException):
  """In the place of the end of this process."""


def exited(status):
  raise Exited(status)


def connection_lost(text='UNKNOWN: Gloo AllGather failed: Connection reset by peer'):
  """The error of a checkpoint that another process did not write its part of."""
  found = OSError('the checkpoint of step 15 was not written')
  found.__cause__ = jax.errors.JaxRuntimeError(text)
  return found


ENDS = [
  (ValueError('a mistake'), 0),
  (ValueError('UNKNOWN: Gloo AllGather failed: Connection closed'), hosts.HEARTBEAT_SECONDS),
  (connection_lost(), hosts.HEARTBEAT_SECONDS),
  (connection_lost('RESOURCE_EXHAUSTED: Out of memory'), 0),
]


@pytest.mark.parametrize(('error', 'least'), ENDS, ids=str)
def test_a_lost_process_leaves_the_end_to_jax(monkeypatch, capsys, error, least):
  """Scripts take the status 1 for a mistake, and start again what JAX has aborted."""
  slept = []
  monkeypatch.setattr(hosts, '_connect', lambda *_: True)
  monkeypatch.setattr(hosts.jax, 'process_count', lambda: 3)
  monkeypatch.setattr(hosts.jax, 'process_index', lambda: 1)
  monkeypatch.setattr(hosts.time, 'sleep', slept.append)
  monkeypatch.setattr(hosts.os, '_exit', exited)
  with pytest.raises(Exited, match='1'), hosts.connected():
    raise error
  assert sum(slept) >= least and bool(slept) == bool(least)
  shown = capsys.readouterr().err
  assert 'process 1 of 3' in shown and 'Fix the cause, which may be in the command' in shown


def test_errors_that_are_their_own_cause_are_no_loss(monkeypatch):
  monkeypatch.setattr(hosts.jax, 'process_count', lambda: 2)
  error = OSError('another process has taken the lock')
  error.__cause__ = error
  assert not hosts.may_be_a_loss(error)


def test_the_text_of_the_first_process_is_sent_whole(monkeypatch):
  """The others give as many bytes, whatever their own text is."""
  sent = 'méthode'.encode()
  monkeypatch.setattr(hosts.jax, 'process_count', lambda: 2)
  monkeypatch.setattr(hosts, 'agreed', lambda number: len(sent))
  receive = lambda own: np.frombuffer(sent, np.uint8) if own.shape == (len(sent),) else None
  monkeypatch.setattr(hosts.multihost_utils, 'broadcast_one_to_all', receive)
  assert hosts.from_first('x') == hosts.from_first('a longer text') == 'méthode'
