"""A mistake of a command's user ends in one message that says what there is instead."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import _cli

ROOT = Path(__file__).resolve().parents[2]
CONFIG = '--config=configs/glue.py:task=mrpc,model=roberta-base'


@pytest.mark.parametrize(
  'flag, words',
  [
    (
      '--config.optim.learning_rate=3',
      ["config.optim has no 'learning_rate'", '--config.optim.lr'],
    ),
    ('--config.epochs=3', ["config has no 'epochs'. Did you mean --config.train.epochs?"]),
    ('--config.optim.lr=abc', ['error: flag --config.optim.lr=abc: could not convert']),
    ('--config=glue:task=mrcp', ["error: ValueError: unknown task 'mrcp'. Did you mean 'mrpc'?"]),
    (
      '--config=configs/gleu.py',
      ["no config file 'configs/gleu.py'. Did you mean 'glue'? Known: "],
    ),
    ('--config.data.source=nowhere', ['error: ', 'nowhere']),
  ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(tmp_path, flag, words):
  command = [
    sys.executable,
    '-m',
    'experiments.train',
    CONFIG,
    flag,
    f'--workdir={tmp_path / "run"}',
  ]
  command.append('--config.data.tokenizer=' + str(ROOT / 'tests/golden/tokens/bert'))
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode in (1, 2)
  assert all(word in done.stderr for word in words), done.stderr
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'run').exists()


def test_a_field_may_stand_before_the_config_that_has_it(tmp_path):
  fields = ['--config.optim.lr=-1', f'--workdir={tmp_path / "run"}', CONFIG]
  command = [sys.executable, '-m', 'experiments.train', *fields]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert 'config.optim.lr=-1.0: expected' in done.stderr and done.returncode == 1


def test_the_last_line_of_a_failure_is_its_cause(capsys):
  _cli.show(ValueError('the directory holds another run:\n  lr: 1, 2 given\nChoose another one.'))
  lines = capsys.readouterr().err.splitlines()
  assert lines[-1] == 'error: ValueError: the directory holds another run'
  assert lines[1:-1] == ['  lr: 1, 2 given', 'Choose another one.']


def test_config_files_are_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = f'--config={ROOT}/configs/glue.py:task=mrpc'
  assert _cli._with_config_file('--config=configs/glue.py:task=mrpc') == found
  assert _cli._with_config_file('--config=glue:task=mrpc') == found
  assert _cli._with_config_file('--config.optim.lr=1') == '--config.optim.lr=1'
  (tmp_path / 'glue').write_text('a file of the user')
  assert _cli._with_config_file('--config=glue') == '--config=glue'


LOGS = """
import logging
from absl import logging as absl_logging
from experiments import _cli

def main():
  logging.warning('disk is slow')
  logging.info('%d rows', 3)
  absl_logging.info('saved')
  logging.getLogger('matplotlib.font_manager').info('generated new fontManager')
  logging.getLogger('matplotlib').warning('no font')
  logging.getLogger('jax._src.xla_bridge').warning('Unable to initialize backend')

_cli.run(main)
"""


def test_what_is_logged_is_a_sentence_for_the_user():
  logged = {}
  for flag in ('', '--debug'):
    command = [sys.executable, '-c', LOGS, *filter(None, [flag])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    logged[flag] = done.stderr
  assert logged[''].splitlines() == [
    'warning: disk is slow', '3 rows', 'saved', 'warning: no font',
  ]  # fmt: skip
  assert re.search(r'W\d{4} .*disk is slow', logged['--debug'])
  assert 'fontManager' in logged['--debug'] and 'Unable to' in logged['--debug']


def test_what_follows_from_an_error_that_is_said_is_not_told(capsys):
  """A full disk ends each write that is in progress with a traceback of a closed event loop."""
  _cli._tell(RuntimeError, RuntimeError('Event loop is closed'), None)
  assert capsys.readouterr().err == ''
  _cli._tell(RuntimeError, RuntimeError('Event loop is open'), None)
  assert 'RuntimeError: Event loop is open' in capsys.readouterr().err


OUTPUT = """
import sys
from experiments import _cli

def main():
  if '{how}' == 'another pipe':
    raise BrokenPipeError(32, 'Broken pipe')
  print('an answer', flush='{how}' == 'flushed')
  sys.stdin.read()
  print('another')

_cli.run(main)
"""


@pytest.mark.parametrize('how', ['flushed', 'kept for the end', 'another pipe'])
def test_a_reader_that_has_enough_ends_the_command_without_a_word(how):
  """As `head` does; a pipe to another process that breaks is an error."""
  command = [sys.executable, '-c', OUTPUT.format(how=how)]
  pipes = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.PIPE)
  with subprocess.Popen(command, cwd=ROOT, **pipes) as child:
    assert child.stdin and child.stdout and child.stderr
    if how == 'another pipe':
      assert 'error: BrokenPipeError' in child.stderr.read().decode()
    else:
      if how == 'flushed':
        assert child.stdout.readline() == b'an answer\n'
      child.stdout.close()
      child.stdin.close()
      assert child.stderr.read() == b''
  assert child.returncode == (1 if how == 'another pipe' else 141)
