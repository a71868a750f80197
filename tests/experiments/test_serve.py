"""The command answers standard input; its mistakes."""

import json
import shutil
import subprocess
import sys

import pytest

from experiments import serve
from lora_jax.adapters.native import save_adapter
from tests.serving.test_server import OPTIONS, ROOT, WORDS, make


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A base with its tokenizer, and a folder of each adapter in the native format."""
  folder = tmp_path_factory.mktemp('serve')
  shutil.copytree(ROOT / 'tests/golden/models/bert', folder / 'base')
  (folder / 'base' / 'vocab.txt').write_text('\n'.join(WORDS) + '\n')
  for seed, (name, case) in enumerate(OPTIONS.items()):
    save_adapter(folder / name, make(folder / 'base', *case, seed))
  return folder


MISTAKES = {
  'not of the form NAME=FOLDER': ['sst2'],
  "the name 'a' is given twice": ['a=b', 'a=c'],
  'is empty': [],
}


@pytest.mark.parametrize('message', MISTAKES)
def test_wrong_flags_say_what_is_wrong(message):
  with pytest.raises(ValueError, match=message):
    serve.folders(MISTAKES[message])


def test_an_adapter_that_cannot_be_read_is_named():
  with pytest.raises(ValueError, match="adapter 'x': "):
    serve.read_adapter('x', 'nowhere')


def test_the_command_answers_standard_input_and_reports(folder):
  requests = [{'adapter': name, 'text': 'good film'} for name in ('sst2', 'mnli', 'mnly')]
  adapters = [f'--adapters={name}={folder / name}' for name in OPTIONS]
  options = [f'--base={folder / "base"}', *adapters, '--requests=-']
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.serve', *options],
    input='\n'.join(map(json.dumps, requests)),
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr
  answers = [json.loads(line) for line in done.stdout.splitlines()]
  assert [answer.get('adapter') for answer in answers] == ['sst2', 'mnli', None]
  assert answers[2] == {'line': 3, 'error': answers[2]['error']}
  report = json.loads(done.stderr.splitlines()[-1])
  assert report['requests'] == 3
  assert report['errors'] == 1
  assert report['tokens'] == 8
  assert report['compilations'] == 2
  assert report['requests_per_second'] > 0
