"""The loop as a whole: what a run leaves, and that an interrupted one ends like any other."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from lora_jax import stacking, tree
from lora_jax.adapters import adapter, fingerprint, native
from lora_jax.data import tasks
from lora_jax.result_schema import RunResult
from lora_jax.train import evaluate, job, loop, run_adapter, warm_start
from lora_jax.train.step import make_eval_step

ROOT = Path(__file__).resolve().parents[2]


def result_of(workdir):
  return json.loads((workdir / 'result.json').read_text())


def trained(workdir, which='last'):
  """What a finished run trained, by path."""
  return tree.flatten(job.load_run(workdir, which)[1])


def assert_same_run(one, other):
  """Metrics and final parameters equal to the last bit; only times and the place differ."""
  ours, theirs = result_of(one), result_of(other)
  for name in ('history', 'best', 'last', 'steps', 'padding', 'parameters'):
    assert ours[name] == theirs[name], name
  assert (one / 'metrics.jsonl').read_text() == (other / 'metrics.jsonl').read_text()
  ours, theirs = trained(one), trained(other)
  assert ours.keys() == theirs.keys()
  for path, leaf in ours.items():
    np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)


@pytest.fixture(scope='module')
def finished(tmp_path_factory, make_config):
  """A finished LoRA run and its result; tests only read it."""
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  return workdir, loop.train(make_config(**{'train.epochs': 8}), workdir)


def test_a_run_learns_and_says_how(finished):
  workdir, result = finished
  assert result == result_of(workdir)
  optional = {'generated', 'overrides'}  # Of decoded texts; added by the report.
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
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines] == [record['step'] for record in history]
  assert list((workdir / 'tensorboard').iterdir())


@pytest.mark.parametrize('name', ['adapter_p', 'prefix_embed', 'lora+prefix_layer'])
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


def test_checkpoints_hold_no_frozen_leaf(finished):
  workdir, result = finished
  work, trainable = job.load_run(workdir)
  assert tree.count(trainable) == result['parameters']['trainable']
  assert not set(tree.paths(trainable)) & set(tree.paths(work.frozen))


def test_the_hardware_is_named(finished):
  _, result = finished
  assert result['device'].endswith('x cpu')
  assert result['cpu'].startswith(f'{os.cpu_count()} x ')
  if 'model name' in (known := Path('/proc/cpuinfo').read_text()):  # Not on every architecture.
    assert f'model name\t: {result["cpu"].partition(" x ")[2]}' in known


def test_best_and_last_are_kept(finished):
  workdir, result = finished
  for which in ('best', 'last'):
    report = evaluate.evaluate_run(workdir, which=which)
    for name, value in report['adapted'].items():
      np.testing.assert_allclose(value, result[which][name], rtol=1e-5, err_msg=name)


def test_merged_model_evaluates_the_same(finished):
  report = evaluate.evaluate_run(finished[0])
  assert 0 < report['largest_logit_difference'] < 1e-4
  assert report['merged']['dev/accuracy'] == report['adapted']['dev/accuracy']


def test_a_finished_run_is_not_run_again(finished, make_config):
  workdir, result = finished
  before = (workdir / 'result.json').stat().st_mtime_ns
  assert loop.train(make_config(**{'train.epochs': 8}), workdir) == result
  assert (workdir / 'result.json').stat().st_mtime_ns == before


def test_another_config_is_refused(finished, make_config):
  with pytest.raises(ValueError, match=r'optim\.lr: 0\.01 in the directory, 0\.5 given') as error:
    loop.train(make_config(**{'train.epochs': 8, 'optim.lr': 0.5}), finished[0])
  assert str(finished[0]) in str(error.value)


def test_a_folder_of_other_files_is_refused(tmp_path, make_config):
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match=f'{tmp_path} holds other files'):
    loop.train(make_config(), tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_sigterm_saves_and_the_next_start_ends_the_same(tmp_path, make_config):
  """Interrupted inside an epoch, at a step that no schedule would save."""
  config = make_config(**{'train.epochs': 12, 'model.hidden_dropout': 0.1})
  loop.train(config, tmp_path / 'whole')
  interrupted = tmp_path / 'interrupted'

  def interrupt():
    while not (interrupted / 'metrics.jsonl').exists() or (
      (interrupted / 'metrics.jsonl').read_text().count('\n') < 3
    ):
      time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=interrupt, daemon=True).start()
  with pytest.raises(SystemExit) as stopped:
    loop.train(config, interrupted)
  assert stopped.value.code == 143
  assert not (interrupted / 'result.json').exists()
  loop.train(config, interrupted)
  assert_same_run(tmp_path / 'whole', interrupted)


@pytest.mark.parametrize('every', [4])
def test_killed_run_ends_the_same(tmp_path, make_config, every):
  """kill -9 of a real process, twice, between checkpoints inside epochs."""
  overrides = {'train.epochs': 12, 'checkpoint.every_steps': every, 'model.hidden_dropout': 0.1}
  config = make_config(**overrides)
  (tmp_path / 'config.py').write_text(
    'import json\nfrom ml_collections import config_dict\n'
    f'def get_config():\n  return config_dict.ConfigDict(json.loads({config.to_json()!r}))\n'
  )

  def start(workdir):
    return subprocess.Popen(
      [sys.executable, '-m', 'experiments.train', f'--config={tmp_path / "config.py"}',
       f'--workdir={workdir}'],
      cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  uninterrupted = start(whole)
  for least in (1, 30):  # Steps that have to be saved before the process is killed.
    process = start(killed)
    while process.poll() is None and latest(killed) < least:
      time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
  assert not (killed / 'result.json').exists(), 'the run ended before it was killed'
  process = start(killed)
  for one in (process, uninterrupted):
    _, errors = one.communicate(timeout=300)
    assert one.returncode == 0, errors
  assert_same_run(whole, killed)


def latest(workdir):
  """The largest step that has a checkpoint."""
  steps = [int(p.name) for p in (workdir / 'checkpoints').glob('*') if p.name.isdigit()]
  return max(steps, default=0)


@pytest.fixture(scope='module')
def work(make_config):
  """A job of the run's config."""
  return job.load(make_config())


def test_warm_start_takes_factors_and_drops_another_head(finished, work):
  started, dropped = warm_start.warm_start(work, finished[0])
  assert dropped == []
  for path, leaf in trained(finished[0], 'best').items():
    np.testing.assert_array_equal(leaf, tree.flatten(started)[path])

  wider = job.build(work.config, work.task._replace(num_labels=3))
  started, dropped = warm_start.warm_start(wider, finished[0])
  assert dropped == ['classifier/bias', 'classifier/kernel']
  for path in ('encoder/layers/attention/query/lora_b', 'pooler/kernel'):
    np.testing.assert_array_equal(tree.flatten(started)[path], trained(finished[0], 'best')[path])


def test_warm_start_drops_all_of_robertas_head(make_config, tmp_path):
  config = make_config(**{'model.fresh.family': 'roberta', 'train.epochs': 1})
  loop.train(config, tmp_path / 'run')
  work = job.load(config)
  wider = job.build(config, work.task._replace(num_labels=3))
  _, dropped = warm_start.warm_start(wider, tmp_path / 'run')
  assert dropped == [
    f'classifier/{layer}/{leaf}' for layer in ('dense', 'output') for leaf in ('bias', 'kernel')
  ]


@pytest.fixture(scope='module')
def saved(finished, tmp_path_factory):
  """The adapter of that run, of which layers are scanned, saved without its data."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tasks, 'load_task', None)
    found = run_adapter.from_run(finished[0])
  folder = tmp_path_factory.mktemp('adapter') / 'saved'
  native.save_adapter(folder, found)
  return folder


def test_a_run_becomes_an_adapter_of_its_base(finished, saved, work, make_config):
  found = native.load_adapter(saved)
  assert (found.task, found.num_labels, found.base) == ('classification', 2, 'fresh')
  method, frozen, trainable = adapter.attach(found, work.model, run_adapter.base_params(work))
  assert method.patterns == work.method.patterns
  for ours, theirs in ((frozen, work.frozen), (trainable, trained(finished[0], 'best'))):
    ours, theirs = tree.flatten(ours), tree.flatten(theirs)
    assert ours.keys() == theirs.keys()
    for path, leaf in theirs.items():
      np.testing.assert_array_equal(ours[path], leaf)
  # A run as base: what it made of its own is what the adapter on top is for.
  above = job.load(make_config('adapter_p', **{'model.name': str(finished[0])}))
  merged = method.merge(frozen, trainable)
  found = run_adapter.from_job(above, above.trainable)
  assert found.fingerprint == fingerprint.fingerprint(merged, work.model.config)
  adapter.check_base(found, above.model, merged)
  with pytest.raises(ValueError, match=r'values of .*attention/query/kernel'):
    adapter.check_base(found, above.model, run_adapter.base_params(work))


def test_warm_start_takes_an_adapter_as_it_takes_a_run(finished, saved, work, make_config):
  from_run, from_adapter = (warm_start.warm_start(work, source) for source in (finished[0], saved))
  jax.tree.map(np.testing.assert_array_equal, from_adapter[0], from_run[0])
  assert from_adapter[1] == from_run[1] == []
  # Layers may be looped where they were scanned.
  loop = work._replace(trainable=stacking.unstack(work.trainable))
  looped, dropped = warm_start.warm_start(loop, saved)
  assert not dropped
  same = tree.flatten(stacking.unstack(from_run[0]))
  for path, leaf in tree.flatten(looped).items():
    np.testing.assert_array_equal(leaf, same[path])
  with pytest.raises(ValueError, match=r'alpha: 16\.0 in the source, 8\.0 in this config'):
    warm_start.warm_start(work._replace(config=make_config(**{'method.alpha': 8.0})), saved)


@pytest.mark.parametrize(
  'overrides, word',
  [
    ({'method.alpha': 8.0}, 'alpha: 16.0 in the source, 8.0 in this config'),
    ({'method.rank': 4}, 'rank: 8 in the source, 4 in this config'),
  ],
)
def test_warm_start_refuses_another_scale(finished, work, make_config, overrides, word):
  with pytest.raises(ValueError, match=word):
    warm_start.warm_start(work._replace(config=make_config(**overrides)), finished[0])


def test_a_run_is_the_base_of_another(finished, make_config, tmp_path):
  """LoRA on top of a merged run begins at that run's outputs."""
  config = make_config('full', **{'model.name': str(finished[0])})
  work = job.load(config)
  outputs = evaluate.evaluate_run(finished[0])
  step = make_eval_step(work.apply, 'classification')
  outputs_of = lambda batch: step(work.frozen, work.trainable, batch)
  report = dict(evaluate.evaluate(work.task, evaluate.compute(outputs_of, evaluate.layouts(work))))
  np.testing.assert_allclose(report['dev/loss'], outputs['adapted']['dev/loss'], rtol=1e-4)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, make_config):
  """Adam's first steps at such a rate overflow; what was saved before stays as it is."""
  config = make_config(**{'optim.lr': 1e30, 'optim.clip': 0.0, 'optim.warmup_ratio': 0.6})
  with pytest.raises(FloatingPointError, match=r'is nan at step \d+ .*Lower config\.optim\.lr'):
    loop.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'result.json').exists()
  assert all(not p.name.startswith('.') for p in (tmp_path / 'run').iterdir())


@pytest.mark.parametrize(
  'overrides, words',
  [
    ({'model.fresh.vocab_size': 8}, ['token id', 'beyond the 8', 'config.data.tokenizer']),
    ({'model.fresh.max_positions': 4}, ['tokens', '4 positions', 'config.data.max_length']),
    ({'train.batch_size': 2, 'mesh.data': 4}, ['batch_size=2 cannot be split over 4 devices']),
    ({'mesh.data': 64}, ['needs 64 devices; there are 8']),
    ({'optim.warmup_steps': 999}, ['optim.warmup_steps=999 exceeds']),
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
