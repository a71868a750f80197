"""The JSON of `experiments.score`, and its mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path):
  def write(name, data):
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(tmp_path / name)

  return write


def run(*flags, **env):
  command = [sys.executable, '-m', 'experiments.score', *flags]
  done = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **env}, check=False
  )
  assert 'Traceback' not in done.stderr
  return done


def test_prints_json(write, tmp_path):
  predictions = write('p.tsv', 'MR\toutput\ny\tdu café\nx\tA b c d\n')
  references = write('r.csv', 'mr,ref\nx,a b c d\ny,du café\nx,e\n')
  files = [f'--predictions={predictions}', f'--references={references}']
  done = run('--task=e2e', *files, PATH=str(tmp_path))
  report = json.loads(done.stdout)
  assert report['scores']['bleu'] == pytest.approx(1)
  assert set(report['scores']) == {'bleu', 'nist', 'nist_pymteval'}
  assert set(report['unavailable']) == {'meteor', 'rouge_l', 'cider'}
  assert 'apt install' in report['unavailable']['meteor']
  assert (report['segments'], report['references']) == (2, 3)
  assert set(report['settings']) > {'bleu', 'nist'} and 'sacrebleu' in report['versions']
  assert done.returncode == 0


def test_mistakes_end_in_one_message(write):
  files = [f'--predictions={write("p.txt", "a")}', f'--references={write("r.txt", "a")}']
  for flags, words in {
    ('--task=e2e', '--metrics=bleu,ter'): "e2e has no metric 'ter'",
    ('--task=e2e', f'--predictions={files[0][14:]}.gone'): 'No such file',
  }.items():
    done = run(*files, *flags)
    assert done.returncode == 1 and done.stdout == ''
    assert words in done.stderr


def test_a_run_or_files_are_scored(tmp_path):
  for flags, words in {
    (): 'expected --workdir=RUN, or also --task, --predictions, --references',
    ('--task=e2e',): 'or also --predictions, --references',
    (
      '--workdir=run',
      '--task=e2e',
    ): '--workdir scores a run by its own task and files: leave out --task',
    (f'--workdir={tmp_path}',): 'is not a run directory',
  }.items():
    done = run(*flags)
    assert done.returncode == 1 and words in done.stderr
