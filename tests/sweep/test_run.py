"""A sweep in a folder: what is trained, by whom, and what is left as it is."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lora_jax import provenance
from lora_jax.sweep import grouping, run, stacked
from lora_jax.sweep import train as train_sweep
from lora_jax.train import loop, rundir
from tests.sweep.runs import BASE, RUNS, assert_same_run

ROOT = Path(__file__).resolve().parents[2]


def test_a_finished_sweep_is_not_run_again(swept, make_config):
  folder, all_members, results = swept
  before = {member.name: (folder / member.name).stat().st_mtime_ns for member in all_members}
  config = make_config(**BASE, **{'model.hidden_dropout': 0.1})
  assert train_sweep(config, RUNS, folder) == results
  assert before == {
    member.name: (folder / member.name).stat().st_mtime_ns for member in all_members
  }
  assert not (folder / 'locks').exists()
  with config.unlocked():
    config.train.batch_size = 4
  with pytest.raises(
    ValueError, match=r'another sweep:\n  config.train.batch_size: 8 in .* 4 given'
  ):
    train_sweep(config, RUNS, folder)


def result(group):
  """A result that says which runs were trained with it."""
  best = {'x': 1.0, 'step': 1}
  return {'metric': 'x', 'history': [best], 'best': best, 'last': best, 'by': group}


@pytest.fixture
def trained_groups(monkeypatch):
  """The groups that were trained, by `stacked` or alone; each leaves a result and no more."""
  groups = []

  def leave(group, workdir):
    groups.append([member.name for member in group])
    for member in group:
      (workdir / member.name).mkdir()
      (workdir / member.name / 'result.json').write_text(json.dumps(result(groups[-1])))

  def alone(config, workdir):
    if config.optim.lr > 1:
      workdir.mkdir()
      (workdir / 'failed.json').write_text('{"error": "loss is nan"}')
      raise FloatingPointError('loss is nan')
    leave([grouping.Member(workdir.name, config)], workdir.parent)

  monkeypatch.setattr(
    stacked, 'train', lambda group, source, workdir, *_: leave(group.members, workdir)
  )
  monkeypatch.setattr(loop, 'train', alone)
  return groups


def test_a_machine_trains_its_own_groups_first_and_then_what_nobody_has(
  tmp_path, make_config, trained_groups
):
  runs = [{'method.rank': rank} for rank in (1, 2, 3, 4, 5)]
  config = make_config(**{'sweep.width': 2})
  results = train_sweep(config, runs, tmp_path / 'all', shard=(1, 2))
  assert trained_groups == [['rank=3', 'rank=4'], ['rank=1', 'rank=2'], ['rank=5']]
  assert results['rank=1'] == result(['rank=1', 'rank=2']) and len(results) == 5
  assert train_sweep(config, runs, tmp_path / 'all') == results and len(trained_groups) == 3
  assert list((tmp_path / 'all' / 'groups').glob('*')) == []


def test_states_of_other_groups_are_named(tmp_path, make_config, trained_groups, caplog):
  runs = [{'method.rank': rank} for rank in (1, 2, 3)]
  config = make_config(**{'sweep.width': 2})
  (group, _) = run.choice.choose(grouping.members(config, runs), 2, run.Source())
  folder = tmp_path / 'all' / stacked.FOLDER
  (folder / grouping.identity(group.members)).mkdir(parents=True)
  train_sweep(config, runs[:2], tmp_path / 'all')
  assert not caplog.text
  (tmp_path / 'other' / stacked.FOLDER / '0123456789abcdef').mkdir(parents=True)
  train_sweep(config, runs, tmp_path / 'other')
  assert 'other/groups holds unfinished states (1) of groups with other members' in caplog.text


def test_what_another_machine_has_locked_is_left_to_it(tmp_path, make_config, trained_groups):
  runs = [{'method.rank': rank} for rank in (1, 2, 3)]
  run.check_folder(tmp_path / 'all', make_config(), grouping.members(make_config(), runs))
  with run.Locks(tmp_path / 'all' / 'locks') as other:
    assert other.take('rank=2')
    results = train_sweep(make_config(), runs, tmp_path / 'all')
  assert trained_groups == [['rank=1', 'rank=3']]
  assert list(results) == ['rank=1', 'rank=3']


def test_a_run_that_is_left_alone_and_diverges_leaves_its_failure(
  tmp_path, make_config, trained_groups
):
  results = train_sweep(make_config(), [{'optim.lr': 1e30}], tmp_path / 'all')
  assert results == {'lr=1e+30': {'error': 'loss is nan'}} and trained_groups == []
  assert (tmp_path / 'all' / 'lr=1e+30' / rundir.FAILED).exists()


def test_a_folder_of_other_files_is_refused(tmp_path, make_config):
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match=rf'{tmp_path} holds other files and no sweep\.json'):
    train_sweep(make_config(), [{'seed': 1}], tmp_path)


def test_machines_that_begin_at_once_do_not_refuse_the_folder(
  tmp_path, make_config, trained_groups
):
  # The first one writes sweep.json while the second one looks at the folder.
  part = tmp_path / '.sweep.json.4711.part'
  part.touch()
  assert len(train_sweep(make_config(**BASE), RUNS, tmp_path, (1, 2))) == len(RUNS)
  assert part.exists()


def test_a_finished_sweep_leaves_no_state_of_groups_of_another_width(
  tmp_path, make_config, trained_groups
):
  (tmp_path / stacked.FOLDER / '0123456789abcdef' / 'checkpoints' / '8').mkdir(parents=True)
  assert len(train_sweep(make_config(**BASE), RUNS, tmp_path)) == len(RUNS)
  assert not (tmp_path / stacked.FOLDER).exists()


def test_a_sweep_that_found_no_data_is_begun_again_with_the_right_folder(
  tmp_path, make_config, trained_groups
):
  config, folder = make_config(**BASE), tmp_path / 'sweep'
  config.sweep.width = 0  # Then the data is read before any group is trained.
  right, wrong = config.data.dir, str(tmp_path / 'none')
  config.data.dir = wrong
  with pytest.raises(FileNotFoundError, match='is not a folder'):
    train_sweep(config, RUNS, folder)
  config.data.dir = right
  results = train_sweep(config, RUNS, folder)
  assert len(results) == len(RUNS)
  config.data.dir = wrong
  with pytest.raises(ValueError, match=r'another sweep:\n  config\.data\.dir'):
    train_sweep(config, RUNS, folder)


def test_finished_runs_of_other_overrides_with_the_same_names_are_refused(
  tmp_path, make_config, trained_groups
):
  config, section = make_config(**BASE), lambda rank: {**config.method.to_dict(), 'rank': rank}
  first, other = ([{'method': section(rank)}] for rank in (2, 4))
  train_sweep(config, first, tmp_path / 'sweep')
  (member,) = grouping.members(config, first)
  kept = tmp_path / 'sweep' / member.name / 'config.json'
  kept.write_text(member.config.to_json_best_effort())
  assert train_sweep(config, first, tmp_path / 'sweep')
  with pytest.raises(ValueError, match=r'another config:\n  method.rank: 2 in the .* 4 given'):
    train_sweep(config, other, tmp_path / 'sweep')


def test_what_is_damaged_of_a_sweep_is_written_anew_or_named(tmp_path, make_config, trained_groups):
  folder, runs = tmp_path / 'all', [{'seed': 1}]
  results = train_sweep(make_config(), runs, folder)
  shutil.rmtree(folder / 'seed=1')
  (folder / 'seed=1').mkdir()
  for name, text in (('result.json', '['), (rundir.FAILED, '[]')):
    (folder / 'seed=1' / name).write_text(text)
    assert run.outcome(folder / 'seed=1') is None, 'it is trained again'
    (folder / 'seed=1' / name).unlink()
  for text in ('', '[]', '{"config"'):
    (folder / 'sweep.json').write_text(text)
    with pytest.raises(ValueError, match=r'sweep\.json: .*remove the file: it is written anew'):
      train_sweep(make_config(), runs, folder)
  (folder / 'sweep.json').unlink()
  shutil.rmtree(folder / 'seed=1')
  assert train_sweep(make_config(), runs, folder) == results


@pytest.mark.slow
def test_a_killed_sweep_ends_the_same(tmp_path, make_config):
  """kill -9 of a real process between checkpoints; what was finished is not run again."""
  config = make_config(**BASE | {'checkpoint.every_steps': 4, 'train.epochs': 30})
  (tmp_path / 'config.py').write_text(
    'import json\nfrom ml_collections import config_dict\n'
    f'def get_config():\n  return config_dict.ConfigDict(json.loads({config.to_json()!r}))\n'
    f'def sweep():\n  return {[{"optim.lr": 1e-2}, {"optim.lr": 1e-3, "train.epochs": 4}]!r}\n'
  )

  def start(folder):
    return subprocess.Popen(
      [sys.executable, '-m', 'experiments.sweep', f'--config={tmp_path / "config.py"}',
       f'--workdir={folder}'],
      cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

  def latest(folder):
    steps = [p.name for p in folder.glob('groups/*/checkpoints/*') if p.name.isdigit()]
    return max(map(int, steps), default=0)

  killed, whole = tmp_path / 'killed', tmp_path / 'whole'
  for least in (4, 40):
    process = start(killed)
    while process.poll() is None and latest(killed) < least:
      time.sleep(0.01)
    process.kill()
    process.communicate()
  early, late = killed / 'lr=0.001,epochs=4', killed / 'lr=0.01'
  assert not (late / 'result.json').exists(), 'the sweep ended before it was killed'
  before = (early / 'result.json').stat().st_mtime_ns
  for folder in (killed, whole):
    process = start(folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
  assert (early / 'result.json').stat().st_mtime_ns == before
  for name in (early.name, late.name):
    assert_same_run(whole / name, killed / name)


def test_each_member_has_the_record_of_its_files(swept):
  folder, members, results = swept
  for member in members:
    recorded = provenance.read_record(folder / member.name)
    assert {name.split('/')[0] for name in recorded} == {'data', 'tokenizer'}
    if 'best' in results[member.name]:
      assert results[member.name]['inputs'] == recorded
