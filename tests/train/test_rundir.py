"""Run directories: whose they are, what is read of them, and the signal that stops a run."""

import json
import re
import shutil

import pytest

from lora_jax import provenance
from lora_jax.train import loop, rundir
from tests.train.conftest import FINISHED


def test_another_config_is_refused(finished, make_config):
  with pytest.raises(ValueError, match=r'optim\.lr: 0\.01 in the directory, 0\.5 given') as error:
    loop.train(make_config(**FINISHED | {'optim.lr': 0.5}), finished[0])
  assert str(finished[0]) in str(error.value)


def test_a_folder_of_other_files_is_refused(tmp_path, make_config):
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match=f'{tmp_path} holds other files'):
    loop.train(make_config(), tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']
  # What a process that was killed has left of its config is no file of others.
  (tmp_path / 'thesis.tex').rename(tmp_path / '.config.json.4711.part')
  rundir.check(tmp_path, make_config())


def test_a_directory_becomes_a_runs_own_and_stays_that_of_its_config(tmp_path, make_config):
  folder, config = tmp_path / 'run', make_config()
  rundir.check(folder, config)  # There is none yet.
  rundir.begin(folder, config)
  assert rundir.read_config(folder).to_dict() == json.loads(config.to_json_best_effort())
  assert [path.name for path in folder.iterdir()] == ['config.json']
  before = (folder / 'config.json').stat().st_mtime_ns
  rundir.begin(folder, config)
  assert (folder / 'config.json').stat().st_mtime_ns == before
  rundir.check(folder, config)
  with config.unlocked():
    config.sweep.width = 7  # How many runs are trained together changes none of them.
  rundir.check(folder, config)
  assert not rundir.is_run(folder)
  (folder / 'checkpoints').mkdir()
  assert rundir.is_run(folder)


@pytest.mark.parametrize(
  'text', ['{', '', '[]', '7', '{}', '{"task": 3, "model": {}, "method": {}}', '[' * 100_000]
)
def test_what_is_no_run_or_a_damaged_one_is_said(tmp_path, text, make_config):
  with pytest.raises(ValueError, match=f'{tmp_path} is not a run directory'):
    rundir.read_config(tmp_path)
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ValueError, match=rf'{tmp_path}/config\.json: '):
    rundir.read_config(tmp_path)
  with pytest.raises(ValueError, match=r'remove the file: it is written anew'):
    rundir.check(tmp_path, make_config())
  (tmp_path / 'config.json').unlink()  # As the message says.
  (tmp_path / 'checkpoints').mkdir()
  rundir.check(tmp_path, make_config())
  rundir.begin(tmp_path, make_config())
  rundir.check(tmp_path, make_config())


BEST = {'step': 3, 'dev/x': 0.5}
RESULT = {'metric': 'dev/x', 'history': [BEST], 'best': BEST, 'last': BEST}


def test_an_outcome_is_a_result_or_the_failure_in_its_place(tmp_path):
  assert rundir.read_result(tmp_path) is rundir.read_outcome(tmp_path) is None
  (tmp_path / 'result.json').write_text(json.dumps(RESULT))
  assert rundir.read_result(tmp_path) == rundir.read_outcome(tmp_path) == RESULT
  (tmp_path / rundir.FAILED).write_text('{"error": "nan"}')
  assert rundir.read_outcome(tmp_path) == {'error': 'nan'}


@pytest.mark.parametrize(
  'name, read, value',
  [
    ('result.json', rundir.read_result, None),
    ('result.json', rundir.read_result, []),
    ('result.json', rundir.read_result, {}),
    ('result.json', rundir.read_result, RESULT | {'history': []}),
    ('result.json', rundir.read_result, RESULT | {'history': 3}),
    ('result.json', rundir.read_result, RESULT | {'best': BEST | {'step': 4}}),
    ('result.json', rundir.read_result, RESULT | {'metric': 'dev/y'}),
    ('failed.json', rundir.read_outcome, []),
    ('failed.json', rundir.read_outcome, {'error': 3}),
  ],
)
def test_a_damaged_outcome_is_named_and_for_training_none(tmp_path, name, read, value, caplog):
  (tmp_path / name).write_text('' if value is None else json.dumps(value))
  with pytest.raises(ValueError, match=f'{tmp_path}/{name}: '):
    read(tmp_path)
  assert rundir.if_whole(read, tmp_path) is None
  assert name in caplog.text and 'written anew' in caplog.text


def test_differences_are_the_leaves_that_differ_by_their_keys():
  old = {'a': 1, 'b': {'c': 2, 'd': 3}, 'gone': {'x': 0}}
  new = {'a': 1, 'b': {'c': 2, 'd': 4}, 'new': 5}
  assert dict(rundir.differences(old, new)) == {
    'b.d': (3, 4),
    'gone': ({'x': 0}, None),
    'new': (None, 5),
  }
  rundir.check_same('they differ', old, old)
  with pytest.raises(ValueError, match=r'they differ:\n  b\.d: 3 in the directory, 4 given'):
    rundir.check_same('they differ', old, new)


def test_a_run_does_not_resume_with_other_data(finished, make_config, tmp_path, folder):
  """Its result is gone, so that it ends again; then a label of its data changes."""
  data = shutil.copytree(folder, tmp_path / 'data')
  config = make_config(**FINISHED, **{'data.dir': str(data)})
  run = shutil.copytree(finished[0], tmp_path / 'run')
  text = json.loads((run / 'config.json').read_text())
  text['data']['dir'] = str(data)
  (run / 'config.json').write_text(json.dumps(text))
  (run / 'result.json').unlink()
  recorded = provenance.read_record(run)
  assert set(recorded) == {'data/SST-2/dev.tsv', 'data/SST-2/train.tsv', 'tokenizer/vocab.txt'}
  assert finished[1]['inputs'] == recorded
  path = data / 'SST-2' / 'train.tsv'
  path.write_text(path.read_text()[:-2] + ('0' if path.read_text()[-2] == '1' else '1') + '\n')
  with pytest.raises(ValueError, match=r'was made from other files .*: data/SST-2/train.tsv\n'):
    loop.train(config, run)
  assert not (run / 'result.json').exists()
  with provenance.changes_allowed():
    result = loop.train(config, run)
  assert result['history'] == finished[1]['history']
  replaced = result['inputs']['data/SST-2/train.tsv']['replaced']
  assert replaced == [recorded['data/SST-2/train.tsv']['sha256']]


def test_a_process_with_another_config_is_told_before_the_directory_is_made(
  tmp_path, monkeypatch, make_config
):
  """It found the difference in the directory, which was then that of the other config."""
  first = json.dumps(rundir.settings(make_config(**{'method.rank': 8})))
  monkeypatch.setattr(rundir.hosts, 'from_first', lambda text: first)
  monkeypatch.setattr(rundir.jax, 'process_index', lambda: 1)
  with pytest.raises(ValueError, match='process 1 was given another config') as error:
    loop.train(make_config(**{'method.rank': 4}), tmp_path / 'run')
  assert '\n  method.rank: 8 in process 0, 4 in process 1\n' in str(error.value)
  assert not (tmp_path / 'run').exists()


def test_a_process_with_other_files_is_told_before_the_directory_is_made(
  tmp_path, monkeypatch, make_config
):
  """With --allow_changed_inputs a run went on, one process with other data than the other."""

  def of_another(text):
    return re.sub(r'("data/SST-2/train\.tsv": ")\d+ bytes', r'\g<1>7 bytes', text)

  monkeypatch.setattr(rundir.hosts, 'from_first', of_another)
  refused = pytest.raises(ValueError, match='process 0 reads other files')
  with refused as error, provenance.changes_allowed():
    loop.train(make_config(), tmp_path / 'run')
  assert 'data/SST-2/train.tsv: 7 bytes, ' in str(error.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('has_own', [False, True])
def test_a_process_that_does_not_see_the_directory_is_told(
  tmp_path, monkeypatch, make_config, has_own
):
  """On a disk of its own it had begun the same run alone; both hung at their first checkpoint."""
  config = make_config()
  if has_own:
    rundir.begin(tmp_path / 'run', config)
  monkeypatch.setattr(rundir.jax, 'process_index', lambda: 1)
  with pytest.raises(ValueError, match=r'process 1 does not see the .*/run of process 0'):
    rundir.begin(tmp_path / 'run', config)
