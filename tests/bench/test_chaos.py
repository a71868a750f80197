"""A job to which things happen: what is seen of it, and that it ends as if nothing had happened."""

import json
import random
import shutil

import pytest

from lora_jax.bench import chaos


@pytest.fixture(scope='module')
def trial(tmp_path_factory):
  """A run that nothing happened to, in the folder of its job."""
  folder = tmp_path_factory.mktemp('chaos')
  work = chaos.make_job(folder, folder / 'runs')
  assert chaos.complete(work.command(folder / 'oracle')).status == 0
  return folder, work


@pytest.mark.slow
def test_a_difference_is_seen(trial):
  folder, _ = trial
  run = folder / 'runs' / 'other'
  shutil.copytree(folder / 'oracle', run)
  assert chaos.differences(run, folder / 'oracle') == []
  result = json.loads((run / 'result.json').read_text())
  result['history'][0]['dev/loss'] += 1e-9
  (run / 'result.json').write_text(json.dumps(result))
  assert chaos.differences(run, folder / 'oracle') == ['history']
  with (run / 'metrics.jsonl').open('a') as file:
    file.write('{}\n')
  assert chaos.differences(run, folder / 'oracle') == ['history', 'metrics.jsonl']


@pytest.mark.slow
@pytest.mark.parametrize('kind', [kind for kind in chaos.KINDS if kind != 'full disk'])
def test_a_run_ends_as_if_nothing_had_happened(trial, kind):
  folder, work = trial
  happened = chaos.Trial(work, folder / 'oracle', seconds=8.0, seed=1)
  for _ in range(2):
    happened.happen(kind)
  happened.close()
  assert happened.problems == []
  assert happened.finished >= 1


def test_one_bit_is_flipped(tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(bytes(100))
  chaos.flip(path, random.Random(0))
  content = path.read_bytes()
  assert len(content) == 100 and sum(byte.bit_count() for byte in content) == 1


def test_the_newest_checkpoint_is_the_one_of_the_highest_step(tmp_path):
  for step in ('5', '10', '100.tmp', 'other'):
    (tmp_path / 'checkpoints' / step / 'trainable').mkdir(parents=True)
    (tmp_path / 'checkpoints' / step / 'trainable' / 'data').write_bytes(b'x')
  assert chaos.newest_files(tmp_path) == [tmp_path / 'checkpoints' / '10' / 'trainable' / 'data']
  assert chaos.newest_files(tmp_path / 'absent') == []
