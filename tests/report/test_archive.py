"""What is kept of a run, sweep or analysis: its JSON, without the folders of the machine."""

import json

import pytest

from lora_jax.report import archive, runs
from tests.report.toys import run


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def test_a_run_is_kept_without_the_folders_of_its_machine():
  config = {'data': {'dir': '/home/me/data', 'limit': 3}, 'targets': ['/a/b', '.*/query', 'c/d']}
  assert archive.without_folders(config) == {
    'data': {'dir': 'data', 'limit': 3},
    'targets': ['b', '.*/query', 'c/d'],
  }


def test_what_is_kept_of_a_run_a_sweep_and_an_analysis(tmp_path):
  inputs = {'data/train.csv': {'path': '/home/me/e2e.zip:train.csv', 'bytes': 3}}
  write(tmp_path / 'one/result.json', run(0, 0.8, model='/m/mini') | {'inputs': inputs})
  ((name, found),) = archive.collect(tmp_path / 'one')
  assert (name, found['model']) == ('mrpc-mini-one', 'mini')
  assert found['inputs'] == {'data/train.csv': {'path': 'e2e.zip:train.csv', 'bytes': 3}}
  write(tmp_path / 'sweep/sweep.json', {})
  for member in ('rank=1', 'rank=2'):
    write(tmp_path / 'sweep' / member / 'result.json', run(0, 0.8, experiment='rank'))
  names = [name for name, _ in archive.collect(tmp_path / 'sweep')]
  assert names == ['mrpc-small-sweep-rank=1', 'mrpc-small-sweep-rank=2']
  write(tmp_path / 'pair/analysis.json', {'experiment': 'analysis', 'runs': ['/a/b']})
  assert list(archive.collect(tmp_path / 'pair')) == [
    ('pair/analysis', {'experiment': 'analysis', 'runs': ['b']})
  ]
  with pytest.raises(ValueError, match=r'expected result\.json.*start it again'):
    list(archive.collect(tmp_path / 'none'))


def test_a_run_that_diverged_is_kept_as_such(tmp_path):
  write(tmp_path / 'all/sweep.json', {})
  write(tmp_path / 'all/lr=0.1/result.json', run(0, 0.8))
  write(tmp_path / 'all/lr=9/failed.json', run(0, 0.8) | {'error': 'loss is nan at step 3.'})
  kept = dict(archive.collect(tmp_path / 'all'))
  for name, found in kept.items():
    write(tmp_path / 'kept' / f'{name}.json', found)
  recorded = runs.read(tmp_path / 'kept')
  assert list(recorded.runs) == ['mrpc-small-all-lr=0.1.json']
  assert list(recorded.diverged) == ['mrpc-small-all-lr=9.json']
  write(tmp_path / 'all/lr=9/failed.json', {'error': 'as an older version wrote it'})
  with pytest.raises(ValueError, match=r'failed\.json: it has no config, .*Train anew'):
    list(archive.collect(tmp_path / 'all'))


def test_a_run_whose_score_is_not_a_number_is_not_kept(tmp_path):
  write(tmp_path / 'result.json', run(0, 0.8) | {'best': {'dev/accuracy': 'nan'}})
  with pytest.raises(ValueError, match=r'result\.json: .*dev/accuracy.*not a result'):
    list(archive.collect(tmp_path))
