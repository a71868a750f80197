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


@pytest.mark.parametrize(
  'name, text', [('result.json', '{"task": '), ('result.json', '{}'), ('analysis.json', '[1]')]
)
def test_a_damaged_file_is_named(name, text, tmp_path):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=rf'{tmp_path}/{name}: '):
    list(archive.collect(tmp_path))


def test_files_of_ones_own_are_told_apart_by_their_contents(tmp_path):
  for name, digest in (('a', '0123456789'), ('b', 'abcdefghij')):
    one = run(0 if name == 'a' else 1, 0.8)
    config = one['config'] | {'own': {'data': '/home/me/train.csv', 'dev': '', 'dev_rows': 0}}
    inputs = {'data/train': {'path': '/home/me/train.csv', 'sha256': digest}}
    write(tmp_path / name / 'result.json', one | {'config': config, 'inputs': inputs})
  kept = [found for name in 'ab' for _, found in archive.collect(tmp_path / name)]
  assert [one['config']['own'] for one in kept] == [
    {'data': f'train.csv ({digest})', 'dev': '', 'dev_rows': 0}
    for digest in ('01234567', 'abcdefgh')
  ]
  assert len(runs.by_seed(kept)) == 2  # Not two seeds of one row.


def test_a_run_is_not_put_in_the_place_of_another(tmp_path):
  path = tmp_path / 'kept.json'
  archive.check_same(path, run(0, 0.8))  # There is none.
  write(path, run(0, 0.8))
  archive.check_same(path, run(0, 0.9))  # The same run, made again.
  new = run(0, 0.8)
  new['config'] = new['config'] | {'data': {'limit': 3}}
  archive.check_same(path, new)  # Kept by a version without the field.
  with pytest.raises(ValueError, match=r'kept\.json holds another run: seed is 0 there and 1 in'):
    archive.check_same(path, run(1, 0.8))
  write(path, new)
  with pytest.raises(ValueError, match=r'config\.data\.limit is 3 there and 4 in the one to add'):
    archive.check_same(path, new | {'config': new['config'] | {'data': {'limit': 4}}})
