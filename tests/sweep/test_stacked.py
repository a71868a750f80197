"""Members compute the runs that training them alone would, and leave what those leave."""

import re
import shutil

import jax
import numpy as np
import pytest

from configs import _base
from lora_jax import methods, tree
from lora_jax.sweep import grouping, stacked
from lora_jax.sweep import train as train_sweep
from lora_jax.train import evaluate, job, loop, optimizer, warm_start
from lora_jax.train.checkpoints import Checkpoints
from tests.sweep.runs import BASE, RUNS, assert_same_run, targets, trained

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
  why = 'at most 4 runs in a program, as config.sweep.width says'
  for member in all_members[:3]:
    assert results[member.name]['members'] == 4 and results[member.name]['members_why'] == why


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


# Runs that share a program, of which the last is compared: what a member lacks is zero in it.
VARIANTS = {
  'pissa': (
    {'method.rank': 4},
    {'method.init': 'pissa', 'method.rank': 2, 'optim.lora_plus': 16.0, 'optim.lr': 1e-3},
  ),
  'lora_fa': (
    {'method.train_a': False, 'method.rank': 2},
    {'method.train_a': False, 'method.rank': 4, 'seed': 1},
  ),
  'vera': (
    {'method': _base.method('vera', {}) | {'rank': 4}, 'optim.lr': 0.1},
    {'method': _base.method('vera', {}) | {'rank': 2, 'projection_seed': 3}, 'optim.lr': 0.3},
  ),
  'quantized': (
    {'model.quantize': 'nf4', 'method.rank': 4},
    {'model.quantize': 'nf4', 'method.rank': 2, **targets('query')},
  ),
  'dora': (
    {'method.dora': True, 'method.rank': 4, 'method.rslora': True},
    {'method.dora': True, 'method.rank': 2, 'seed': 1},
  ),
  'intrinsic': (
    {'method.dimension': 40},
    {'method.dimension': 24, 'method.subspace': 3, 'optim.lr': 1e-3},
  ),
}


@pytest.mark.parametrize(
  'variant',
  [
    'pissa',
    *(
      pytest.param(name, marks=SLOW)
      for name in ('quantized', 'lora_fa', 'vera', 'dora', 'intrinsic')
    ),
  ],
)
def test_a_variant_is_a_member_and_is_resumed(variant, tmp_path, make_config):
  runs, values = VARIANTS[variant], BASE | {'train.epochs': 2, 'checkpoint.keep': 3}
  if any('seed' in run for run in runs):  # A fresh base is of one seed, and so is its program.
    loop.train(make_config(**{'train.epochs': 1, 'optim.lr': 0.0}), tmp_path / 'base')
    values |= {'model.name': str(tmp_path / 'base')}
  config = make_config(variant if variant in methods.METHODS else 'lora', **values)
  member = grouping.members(config, runs)[-1]
  result = train_sweep(config, runs, tmp_path / 'sweep')[member.name]
  assert result['members'] == 2
  single = tmp_path / 'single'
  loop.train(member.config, single)
  assert_same_run(single, tmp_path / 'sweep' / member.name)
  before = trained(single)
  last = Checkpoints(single).last_step()
  shutil.rmtree(single / f'checkpoints/{last}')
  (single / 'result.json').unlink()
  loop.train(member.config, single)
  for path, leaf in trained(single).items():
    np.testing.assert_array_equal(leaf, before[path], err_msg=path)
  # What a method keeps is as it was drawn, and neither counts as trained nor has moments.
  work = job.load(member.config)
  kept = {path: x for path, x in tree.flatten(work.trainable).items() if work.method.fixed(path)}
  for path, leaf in kept.items():
    np.testing.assert_array_equal(before[path], leaf, err_msg=path)
  count = result['parameters']['trainable']
  assert count == sum(x.size for x in before.values()) - tree.count(tree.unflatten(kept))
  state = optimizer.make_optimizer(member.config.optim, 9, work.groups)[0].init(work.trainable)
  assert sum(x.size for x in jax.tree.leaves(state)) == 2 * count + 2  # And two counts of steps.


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


def test_what_a_killed_process_has_decoded_stays_in_a_directory_that_is_made_anew(tmp_path):
  """Half of a run and its folders go, but not the hours that went into its texts."""
  (tmp_path / 'checkpoints' / '3').mkdir(parents=True)
  for name in ('config.json', 'metrics.jsonl', 'predictions-test.txt.partial'):
    (tmp_path / name).touch()
  stacked.make_anew(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['predictions-test.txt.partial']
  stacked.make_anew(tmp_path / 'new')
  assert (tmp_path / 'new').is_dir()
