"""`--help` shows each flag with an example, `--help_config` each field with what it may hold."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from experiments import _help
from lora_jax import fields

ROOT = Path(__file__).resolve().parents[2]


def shown(*arguments):
  command = [sys.executable, '-m', 'experiments.train', *arguments]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_the_help_of_a_command_says_what_it_does_and_shows_its_flags_with_examples():
  text = shown('--help')
  assert text.startswith('Trains one run')
  assert text.index('--config=glue:task=mrpc') < text.index('--workdir=runs/mrpc')
  assert text.index('--workdir=') < text.index('--config.train.epochs=3') < text.index('--debug')


def test_a_reader_may_want_the_first_line_alone():
  command = [sys.executable, '-m', 'experiments.train', '--help_config']
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
    assert child.stdout and child.stderr
    child.stdout.close()  # As `head` does.
    said = child.stderr.read().decode()
  assert child.returncode == 0 and 'BrokenPipe' not in said


def test_the_fields_of_a_config_are_listed_with_its_values_and_without_one_all_fields():
  text = shown('--help_config', '--config=glue:task=mrpc,preset=small')
  assert "task = 'mrpc'\n    A text. Name of the task.\n" in text
  assert 'method.rank = 8\n' in text and 'method.bottleneck' not in text
  everything = _help.config()
  for name, field in fields.ALL.items():
    assert f'{name} = {field.default!r}\n' in everything


def flags_without_a_value():
  """(command, flag) of each flag of text or number whose default shows nothing."""
  for path in sorted((ROOT / 'experiments').glob('*.py')):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Call) and ast.unparse(node.func).startswith('flags.DEFINE_'):
        kind, (name, default) = ast.unparse(node.func), node.args[:2]
        empty = ast.unparse(default) in ('None', "''", '[]')
        if empty and not kind.endswith(('bool', 'enum')) and ast.literal_eval(name) != '_':
          yield path.stem, ast.literal_eval(name)


@pytest.mark.parametrize('command, flag', list(flags_without_a_value()))
def test_each_flag_has_an_example(command, flag):
  assert flag in _help.EXAMPLES, f'{command}: no example of --{flag}'


def test_an_example_is_a_value_that_its_flag_takes_and_says_something():
  known = flags.FlagValues()
  of = lambda name: _help._example(known[name])
  flags.DEFINE_integer('layers', 4, 'Number of blocks.', flag_values=known)
  flags.DEFINE_string('model', 'gpt2-medium', 'Preset of GPT-2.', flag_values=known)
  flags.DEFINE_string('shard', '0/1', 'i/n.', flag_values=known)
  flags.DEFINE_bool('weights', True, 'Load them.', flag_values=known)
  flags.DEFINE_multi_string('add', [], 'Run; may be repeated.', flag_values=known)
  assert (of('layers'), of('model')) == ('--layers=4', '--model=gpt2-medium')
  assert (of('shard'), of('weights')) == ('--shard=0/2', '--noweights')
  assert _help._rows([known['add']]) == '  --add=runs/mrpc\n      Run; may be repeated.'
