"""A config is checked as a whole before its data, its weights or its directory are looked at."""

import pytest

from lora_jax import cost
from lora_jax.sweep import grouping
from lora_jax.train import config_check, loop, rundir
from tests.conftest import updated

WRONG = {
  'optim.lr': -1.0,
  'optim.clip': -1.0,
  'optim.weight_decay': -1.0,
  'optim.beta1': 1.5,
  'optim.eps': -1.0,
  'optim.warmup_ratio': -1.0,
  'optim.warmup_steps': -5,
  'train.epochs': 0,
  'train.label_smoothing': 1.5,
  'data.limit': -5,
  'eval.every_epochs': 0,
  'checkpoint.keep': 0,
  'checkpoint.every_steps': -1,
  'sweep.width': -1,
  'mesh.fsdp': 0,
}


@pytest.mark.parametrize('name', WRONG)
def test_a_run_with_a_number_out_of_its_range_reads_nothing(make_config, tmp_path, name):
  config = make_config(**{'data.dir': str(tmp_path / 'none'), name: WRONG[name]})
  with pytest.raises(ValueError, match=rf'config\.{name}={WRONG[name]}: expected '):
    loop.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_rate_that_is_not_a_number_is_refused(make_config, tmp_path):
  with pytest.raises(ValueError, match=r'optim\.lr=nan: expected a finite number'):
    loop.train(make_config(**{'optim.lr': float('nan')}), tmp_path / 'run')


def test_a_sweep_names_the_member_and_a_plan_the_field(make_config):
  with pytest.raises(
    ValueError, match=r"sweep: {'optim.lr': -1.0}: config\.optim\.lr=-1\.0: expected"
  ):
    grouping.members(make_config(), [{'optim.lr': 1e-3}, {'optim.lr': -1.0}])
  with pytest.raises(ValueError, match=r'config\.optim\.clip=-1\.0: expected'):
    cost.plan(make_config(**{'optim.clip': -1.0}), cost.find('this'))


def test_the_config_of_a_run_directory_is_checked_too(finished, tmp_path):
  text = (finished[0] / 'config.json').read_text()
  assert '"keep": 2' in text
  (tmp_path / 'config.json').write_text(text.replace('"keep": 2', '"keep": NaN'))
  with pytest.raises(ValueError, match=r'config\.json: config\.checkpoint\.keep=nan: expected'):
    rundir.read_config(tmp_path)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'task': 'stsb', 'train.label_smoothing': 0.1}, 'label_smoothing=0.1: stsb is a regression'),
    ({'train.batch_size': 2, 'train.accumulate': 4}, 'accumulate=4 divides a batch of .*=2'),
    ({'method': dict(name='bitfit'), 'optim.lora_plus': 16.0}, 'lora_plus=16.0 is of the factors'),
    ({'task': 'sts-b'}, "unknown task 'sts-b'. Did you mean 'stsb'"),
    ({'method': dict(name='lroa', rank=2)}, "unknown method 'lroa'. Did you mean 'lora'"),
    ({'method': dict(name='prefix_embed', prefix=0, infix=0)}, 'prefix and infix are both 0'),
    ({'model.fresh.num_heads': 3}, 'width of 16 does not divide into 3 heads'),
  ],
)
def test_fields_that_do_not_fit_each_other_are_refused(make_config, values, message):
  config = make_config()
  config_check.check_config(config)
  with config.unlocked():
    if 'method' in values:
      del config['method']
  with pytest.raises(ValueError, match=message):
    config_check.check_config(_with(config, values))


def _with(config, values):
  method, rest = values.get('method'), {k: x for k, x in values.items() if k != 'method'}
  if method is not None:
    with config.unlocked():
      config.method = method
  return updated(config, rest)
