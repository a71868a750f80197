"""What is whole of a run: each damage of each file is found, and repaired by the next start."""

import json
import shutil

import pytest

from lora_jax.train import check, loop, rundir
from tests.train.conftest import FINISHED
from tests.train.runs import assert_same_run


@pytest.fixture
def copy(finished, tmp_path):
  """A copy of a finished run, to be damaged."""
  return shutil.copytree(finished[0], tmp_path / 'run')


def damaged(workdir):
  """The names of what `check` finds damaged."""
  return [
    str(finding.path.relative_to(workdir)) for finding in check.check(workdir) if finding.is_damaged
  ]


SMALL = ['config.json', 'result.json', 'metrics.jsonl', 'provenance.json', 'task.json']


def test_a_whole_run_is_whole_and_says_what_was_read(copy):
  table, is_whole = check.table(copy)
  names = [line.split()[0] for line in table.splitlines()]
  assert is_whole and names[:5] == SMALL
  steps = (copy / 'checkpoints').iterdir()
  assert sorted(names[5:]) == sorted(f'checkpoints/{step.name}' for step in steps)
  (copy / 'checkpoints' / '6.set-aside').mkdir()
  table, is_whole = check.table(copy)
  assert is_whole and '6.set-aside  set aside by a resumed run' in table


@pytest.mark.parametrize('text', [lambda _: '', lambda x: x[: len(x) // 2], lambda _: '[]'])
@pytest.mark.parametrize('name', SMALL)
def test_a_damaged_small_file_is_found(copy, name, text):
  (copy / name).write_text(text((copy / name).read_text()))
  assert damaged(copy) == [name]


def test_a_digit_that_changed_in_a_result_is_found(copy):
  result = json.loads((copy / 'result.json').read_text())
  result['history'][0]['dev/loss'] += 0.001
  (copy / 'result.json').write_text(json.dumps(result))
  assert 'result.json' in damaged(copy)
  assert rundir.if_whole(check.read_result, copy) is None


def test_a_checkpoint_is_found_damaged_or_gone(copy):
  saved = check.Checkpoints(copy)
  best, last = saved.best_step(), saved.last_step()
  data = max((copy / 'checkpoints' / str(last)).rglob('*'), key=lambda path: path.stat().st_size)
  data.write_bytes(data.read_bytes()[:-1] + b'x')
  assert damaged(copy) == [f'checkpoints/{last}']
  assert str(data) in check.table(copy)[0]
  if best != last:
    shutil.rmtree(copy / 'checkpoints' / str(best))
    shutil.rmtree(copy / 'checkpoints' / str(last))
    assert f'checkpoints/{best}' in damaged(copy)


def test_what_is_damaged_is_written_anew_by_the_same_command(copy, finished, make_config):
  for name in ('result.json', 'metrics.jsonl'):
    (copy / name).write_text((copy / name).read_text()[:-200])
  loop.train(make_config(**FINISHED), copy)
  assert_same_run(finished[0], copy)
  assert not damaged(copy)


def test_another_folder_is_refused(tmp_path):
  with pytest.raises(ValueError, match='neither a run directory nor the folder of a sweep'):
    check.table(tmp_path)
