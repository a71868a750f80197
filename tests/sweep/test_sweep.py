"""Members compute the runs that training them alone would, and leave what those leave."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.sweep import grouping, members, stacked, step
from lora_jax.sweep import train as train_sweep
from lora_jax.train import evaluate, job, loop, optimizer, warm_start
from lora_jax.train import step as single_step
from lora_jax.train.step import init_state

ROOT = Path(__file__).resolve().parents[2]


def targets(*names):
  return {'method.targets': (f'.*/attention/({"|".join(names)})',)}


# Ranks and matrices mixed, one that ends early, one that diverges; nine epochs are 54 steps.
BASE = {
  'train.epochs': 9, 'optim.clip': 1.0, 'optim.weight_decay': 0.1, 'sweep.width': 4,
  'data.max_shapes': 1,
}  # fmt: skip
RUNS = (
  {'method.rank': 1, 'optim.warmup_ratio': 0.2, **targets('query')},
  {'method.rank': 8, 'optim.lr': 5e-3, 'train.epochs': 5, **targets('query', 'value')},
  {'method.rank': 64, 'optim.weight_decay': 0.0, **targets('query', 'key', 'value', 'output')},
  {'method.rank': 2, 'optim.lr': 1e30, **targets('key')},
)


@pytest.fixture(scope='module')
def swept(tmp_path_factory, make_config):
  """A finished sweep: its folder, its members, what `train` returned; tests only read it."""
  folder = tmp_path_factory.mktemp('sweep') / 'all'
  config = make_config(**BASE, **{'model.hidden_dropout': 0.1})
  return folder, grouping.members(config, RUNS), train_sweep(config, RUNS, folder)


def trained(workdir, which='last'):
  return tree.flatten(job.load_run(workdir, which)[1])


def assert_same_run(single, member, tolerance=1e-5):
  """Parameters to 1e-5 and the same history, files and keys of the result."""
  ours, theirs = (json.loads((folder / 'result.json').read_text()) for folder in (member, single))
  assert list(ours) == list(theirs)
  for name in ('config', 'parameters', 'steps', 'shapes', 'metric', 'padding'):
    assert ours[name] == theirs[name], name
  for one, other in zip(ours['history'], theirs['history'], strict=True):
    assert list(one) == list(other)
    for name, value in one.items():
      np.testing.assert_allclose(value, other[name], atol=1e-4, err_msg=name)
  for which in ('best', 'last'):
    assert ours[which]['step'] == theirs[which]['step']
    actual, expected = trained(member, which), trained(single, which)
    assert actual.keys() == expected.keys()
    for path, leaf in expected.items():
      np.testing.assert_allclose(actual[path], leaf, atol=tolerance, err_msg=path)
  names = [{path.name for path in folder.iterdir()} for folder in (single, member)]
  assert names[0] == names[1]


SLOW = pytest.mark.slow


@pytest.mark.parametrize('number', [pytest.param(0, marks=SLOW), 1, pytest.param(2, marks=SLOW)])
def test_a_member_is_the_run_that_training_it_alone_gives(swept, number, tmp_path):
  folder, all_members, _ = swept
  member = all_members[number]
  loop.train(member.config, tmp_path / 'single')
  assert_same_run(tmp_path / 'single', folder / member.name)


def test_a_member_that_diverges_says_so_and_poisons_none(swept):
  folder, all_members, results = swept
  lost = all_members[3].name
  assert re.match(r'\w+ is (nan|inf) at step \d+', results[lost]['error'])
  assert not (folder / lost / 'result.json').exists()
  for member in all_members[:3]:
    losses = [record['train/loss'] for record in results[member.name]['history']]
    assert np.isfinite(losses).all() and len(losses) == member.config.train.epochs
  assert results[all_members[1].name]['steps'] == 5 * 6
  assert {results[member.name]['members'] for member in all_members[:3]} == {4}


def test_a_members_directory_serves_as_that_of_any_run(swept, make_config):
  folder, all_members, results = swept
  member = folder / all_members[0].name
  report = evaluate.evaluate_run(member, which='best')
  best = results[all_members[0].name]['best']
  np.testing.assert_allclose(report['adapted']['dev/loss'], best['dev/loss'], rtol=1e-5)
  assert report['largest_logit_difference'] < 1e-4
  config = make_config(**BASE, **RUNS[0], **{'init_adapter': str(member)})
  started, dropped = warm_start.warm_start(job.load(config), member)
  assert dropped == [] and tree.paths(started) == list(trained(member))


def test_a_diverged_member_stays_so_when_it_is_killed_before_its_end(
  tmp_path, make_config, monkeypatch
):
  """Killed after the group's state was saved, before the member's directory was written."""
  config = make_config(**BASE | {'train.epochs': 1})
  runs = [{'optim.lr': 1e-2}, {'optim.lr': 1e30}]

  def killed(engine, record):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(stacked.Stacked, 'finish', killed)
    train_sweep(config, runs, tmp_path / 'sweep')
  results = train_sweep(config, runs, tmp_path / 'sweep')
  assert 'at step' in results['lr=1e+30']['error']
  assert results['lr=0.01']['steps'] == 6


def test_a_finished_sweep_is_not_run_again(swept, make_config):
  folder, all_members, results = swept
  before = {member.name: (folder / member.name).stat().st_mtime_ns for member in all_members}
  config = make_config(**BASE, **{'model.hidden_dropout': 0.1})
  assert train_sweep(config, RUNS, folder) == results
  assert before == {
    member.name: (folder / member.name).stat().st_mtime_ns for member in all_members
  }
  assert list((folder / 'locks').iterdir()) == []
  with config.unlocked():
    config.train.batch_size = 4
  with pytest.raises(
    ValueError, match=r'another sweep:\n  config.train.batch_size: 8 in .* 4 given'
  ):
    train_sweep(config, RUNS, folder)


@pytest.mark.slow
def test_members_with_their_own_batches(tmp_path, make_config):
  """Seeds: other data order, other start; batches of one step padded to one shape; two devices."""
  # The gradient of a key's bias is rounding alone: Adam's usual eps would make updates of it.
  eps = {'optim.eps': 1e-3}
  config = make_config('full', **{'train.epochs': 2, 'mesh.data': 2, 'optim.lr': 1e-2}, **eps)
  runs = [{'seed': 0}, {'seed': 1, 'optim.lr': 3e-2}]
  train_sweep(config, runs, tmp_path / 'sweep')
  member = grouping.members(config, runs)[1]
  loop.train(member.config, tmp_path / 'single')
  ours, theirs = trained(tmp_path / 'sweep' / member.name), trained(tmp_path / 'single')
  for path, leaf in theirs.items():
    np.testing.assert_allclose(ours[path], leaf, atol=1e-5, err_msg=path)


def compiled(config, overrides, shared=True):
  """The compiled step of members at one shape, and their jobs; of a single run for one override."""
  works = members.load([member.config for member in grouping.members(config, overrides)])
  shape = jax.ShapeDtypeStruct((1, 8, 24), jnp.int32)  # No shape of a matrix.
  each = jax.ShapeDtypeStruct((1, 8, 1), jnp.int32)
  batch = {name: shape for name in ('input_ids', 'segment_ids', 'position_ids', 'token_type_ids')}
  batch |= {'prediction_positions': each, 'labels': each}
  batch |= {'weights': jax.ShapeDtypeStruct((1, 8, 1), jnp.float32)}
  if len(works) == 1:
    tx, _ = optimizer.make_optimizer(config.optim, 10)
    now = jax.eval_shape(lambda: init_state(works[0].trainable, tx, 0))
    made = single_step.make_train_step(works[0].apply, tx, 'classification')
    return made.lower(now, works[0].frozen, batch).compile(), works
  per_member = members.per_member(works, [10] * len(works))
  trainable = members.stack([work.trainable for work in works])
  now = step.init_state(works[0], trainable, [work.config.seed for work in works], shared=shared)
  made = step.make_train_step(works[0], shared=shared)
  return made.lower(now, works[0].frozen, per_member, batch).compile(), works


def products(text, *shapes):
  """How many products of the compiled program have an operand of one of the shapes."""
  shape_of = dict(re.findall(r'%([\w.-]+) = (\w+\[[\d,]*\])', text))
  dots = re.findall(r' dot\((.*?)\)', text)
  return sum(any(shape_of.get(x) in shapes for x in re.findall(r'%([\w.-]+)', d)) for d in dots)


def test_members_share_each_product_with_the_base_and_no_copy_of_it(make_config):
  wide = {
    'model.fresh.hidden_size': 128, 'model.fresh.intermediate_size': 512, 'model.scan': False,
    'model.fresh.num_layers': 2, **targets('query', 'value'),
  }  # fmt: skip
  config = make_config(**wide)
  one, (work,) = compiled(config, [{'optim.lr': 1e-2}])
  many, _ = compiled(config, [{'optim.lr': rate} for rate in (1e-2, 2e-2, 3e-2, 4e-2)])
  ratio = many.cost_analysis()['flops'] / one.cost_analysis()['flops']
  assert ratio <= 4 * 1.02, ratio
  # The first layer's keys and queries belong to no member: they are computed once.
  assert ratio < 4
  kernel = 'f32[128,512]', 'f32[512,128]'
  texts = [x.as_text() for x in (one, many)]
  found = [products(text, *kernel) for text in texts]
  assert found[0] == found[1] > 0, found
  copies = [f'f32[4,{x[4:-1]}]' for x in kernel]
  assert not any(copy in texts[1] for copy in copies), 'a member has a base of its own'
  assert not re.search(r'f32\[128,512\]\S* copy\(', texts[1])
  frozen = tree.nbytes(work.frozen)
  assert many.memory_analysis().argument_size_in_bytes < frozen + 5 * 4 * tree.nbytes(
    work.trainable
  )


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
    process.send_signal(signal.SIGKILL)
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
