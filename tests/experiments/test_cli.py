"""A mistake of a command's user ends in one message that says what there is instead."""

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
    ('--config.optim.learning_rate=3', ["config.optim has no 'learning_rate'", ' lr,']),
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
