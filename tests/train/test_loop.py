"""The loop as a whole: what a run leaves, and that an interrupted one ends like any other."""

import numpy as np
import pytest

from lora_jax.result_schema import RunResult
from lora_jax.train import curve, evaluate, loop
from tests.train.conftest import BROKEN, FINISHED
from tests.train.runs import assert_same_run, result_of, start, wait_for_step


def test_a_run_learns_and_says_how(finished):
  workdir, result = finished
  assert result == result_of(workdir)
  optional = {'generated', 'members_why', 'general_text', 'diverged'}  # Texts, sweeps, pages.
  assert set(result) == set(RunResult.__annotations__) - optional
  history = result['history']
  assert history[-1]['train/loss'] < 0.8 * history[0]['train/loss']
  assert result['best']['dev/accuracy'] > 0.8
  assert result['best']['dev/accuracy'] == max(record['dev/accuracy'] for record in history)
  assert [record['step'] for record in history] == [6 * epoch for epoch in range(1, 9)]
  parameters = result['parameters']
  # Two layers, query and value, rank 8, width 16; the head is BERT's pooler and classifier.
  assert parameters['trainable_without_head'] == 2 * 2 * 8 * (16 + 16)
  assert parameters['trainable'] - parameters['trainable_without_head'] == 16 * 17 + 17 * 2
  assert 0 <= result['padding'] < 0.5
  assert set(result['seconds']) == {'training', 'compiling', 'evaluation'}
  assert all(seconds > 0 for seconds in result['seconds'].values())
  assert result['config']['optim']['lr'] == 1e-2
  assert result['versions']['jax']
  lines = curve.read(workdir / 'metrics.jsonl')
  points = [line for line in lines if curve.is_point(line)]
  assert [line for line in lines if line not in points] == history
  assert [point['step'] for point in points] == [10, 20, 30, 40, 48]
  assert points[-1]['curve/loss'] < points[0]['curve/loss'] and points[-1]['curve/grad_norm'] > 0
  assert list((workdir / 'tensorboard').iterdir()) and (workdir / curve.FILE).stat().st_size


@pytest.mark.parametrize('name', ['adapter_p', 'lora+prefix_layer'])
def test_every_method_trains_and_its_checkpoint_restores(name, tmp_path, make_config):
  tokens = {'method.prefix': 3, 'method.infix': 2, 'data.row_length': 24}
  tokens = tokens if 'prefix' in name else {}
  config = make_config(name, **tokens, **{'train.epochs': 6, 'train.eval_batch_size': 8})
  result = loop.train(config, tmp_path / 'run')
  assert result['history'][-1]['train/loss'] < 0.95 * result['history'][0]['train/loss']
  assert 0 < result['parameters']['trainable_without_head'] < result['parameters']['frozen']
  report = evaluate.evaluate_run(tmp_path / 'run', which='last')
  np.testing.assert_allclose(report['adapted']['dev/loss'], result['last']['dev/loss'], rtol=1e-5)
  assert report['merged'].startswith(f'not possible: {name.rpartition("+")[2]} ')


def test_a_language_model_learns(tmp_path, make_language_model):
  config = make_language_model(**{'train.batch_size': 8, 'train.epochs': 6, 'optim.lr': 2e-2})
  result = loop.train(config, tmp_path / 'run')
  losses = [record['dev/loss'] for record in result['history']]
  assert losses[-1] < losses[0] - 0.5
  assert result['best']['dev/loss'] == min(losses)
  np.testing.assert_allclose(
    result['last']['dev/perplexity'], np.exp(result['last']['dev/loss']), rtol=1e-6
  )
  assert result['parameters']['frozen'] == 0


def test_a_finished_run_is_not_run_again(finished, make_config):
  workdir, result = finished
  before = (workdir / 'result.json').stat().st_mtime_ns
  assert loop.train(make_config(**FINISHED), workdir) == result
  assert (workdir / 'result.json').stat().st_mtime_ns == before


def test_killed_run_ends_the_same(tmp_path, whole, make_config):
  """kill -9 of a real process, twice, between checkpoints inside epochs."""
  config, killed = make_config(**BROKEN, **{'checkpoint.every_steps': 4}), tmp_path / 'killed'
  for least in (1, 30):  # Steps that have to be saved before the process is killed.
    process = start(config, killed)
    wait_for_step(killed, least, process)
    process.kill()
    process.communicate()
  assert not (killed / 'result.json').exists(), 'the run ended before it was killed'
  process = start(config, killed)
  _, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors
  assert_same_run(whole, killed)


@pytest.mark.parametrize(
  'overrides, words',
  [
    ({'model.fresh.vocab_size': 8}, ['token id', 'beyond the 8', 'config.data.tokenizer']),
    ({'model.fresh.max_positions': 4}, ['tokens', '4 positions', 'config.data.max_length']),
    ({'train.batch_size': 2, 'mesh.data': 4}, ['batch_size=2 cannot be split over 4 devices']),
    ({'mesh.data': 64}, ['needs 64 devices; there are 8']),
    ({'optim.warmup_steps': 999}, ['optim.warmup_steps=999 exceeds']),
    ({'train.batch_size': 64, 'train.epochs': 1}, ['the run has 1 step', 'warmup_ratio=0']),
    ({'optim.schedule': 'cosin'}, ["optim.schedule='cosin'"]),
    ({'model.dtype': 'bfloat'}, ["config.model.dtype='bfloat'", 'bfloat16']),
    ({'task': 'sst22'}, ['sst22', 'sst2']),
    ({'method.targets': ('.*/qurey',)}, ["'.*/qurey' matches no", 'attention/query']),
    ({'init_adapter': '/nowhere'}, ['/nowhere: there is no such folder']),
    ({'data.tokenizer': ''}, ['config.data.tokenizer=']),
  ],
)
def test_errors_come_before_the_first_step(tmp_path, make_config, overrides, words):
  with pytest.raises((ValueError, FileNotFoundError)) as error:
    loop.train(make_config(**overrides), tmp_path / 'run')
  assert all(word in str(error.value) for word in words), error.value
  assert not (tmp_path / 'run').exists(), 'a corrected config would be refused there'
