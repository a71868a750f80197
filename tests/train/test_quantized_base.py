"""A run on a quantized base: trained, resumed, evaluated, merged, exported, and a base itself."""

import jax
import numpy as np
import pytest

from lora_jax import quantization, tree
from lora_jax.adapters.adapter import attach
from lora_jax.pretrained import load_model
from lora_jax.train import evaluate, export, job, loop, run_adapter
from lora_jax.train.checkpoints import Checkpoints
from tests.train.runs import result_of

VALUES = {'model.quantize': 'nf4', 'train.epochs': 4}


@pytest.fixture(scope='module')
def run(tmp_path_factory, make_config):
  workdir = tmp_path_factory.mktemp('quantized') / 'run'
  loop.train(make_config(**VALUES), workdir)
  return workdir


def test_it_learns_and_merged_it_is_the_same(run):
  history = [record['train/loss'] for record in result_of(run)['history']]
  assert history[-1] < history[0] - 0.01
  report = evaluate.evaluate_run(run)
  assert report['largest_logit_difference'] < 1e-4
  assert report['merged']['dev/accuracy'] == report['adapted']['dev/accuracy']


def test_checkpoints_hold_the_adapter_alone_and_another_quantization_is_refused(run, make_config):
  saved = Checkpoints(run)
  trained = saved.restore_trainable(saved.last_step())
  saved.close()
  assert tree.paths(trained) == tree.paths(job.load(make_config(**VALUES)).trainable)
  with pytest.raises(ValueError, match=r'model.quantize: nf4 in the directory, int8 given'):
    loop.train(make_config(**VALUES | {'model.quantize': 'int8'}), run)


def test_exported_and_as_a_base_it_is_the_merged_model(run, make_config, tmp_path):
  work, trained = run_adapter.load_run(run)
  merged = tree.flatten(quantization.exact(work.method.merge(work.frozen, trained)))
  report = export.export_run(run, tmp_path / 'merged', format='merged')
  assert report['merge_error'] == 0
  _, found = load_model(tmp_path / 'merged', task='classification', num_labels=2, scan=True)
  for path, leaf in tree.flatten(found).items():
    np.testing.assert_array_equal(leaf, merged[path], err_msg=path)
  low = export.export_run(run, tmp_path / 'low', format='merged', dtype='bfloat16')
  assert 0 < low['merge_error'] < 0.1
  query = 'encoder/layers/attention/query/kernel'
  _, found = load_model(
    tmp_path / 'low', task='classification', num_labels=2, scan=True, param_dtype='bfloat16'
  )
  once = merged[query].astype('bfloat16')  # Not to bfloat16 before the update was added as well.
  np.testing.assert_array_equal(tree.flatten(found)[query], once)

  above = job.load(make_config(**{'model.name': str(run), 'model.quantize': 'int8'}))
  kernel = quantization.kernels(above.frozen)[query]
  expected = quantization.quantize({'layers': {'up': {'kernel': merged[query]}}}, 'int8')
  for one, other in zip(jax.tree.leaves(kernel), jax.tree.leaves(expected), strict=True):
    np.testing.assert_array_equal(one, other)


def test_an_adapter_goes_on_a_base_of_the_same_codes_alone(run, make_config):
  work, trained = run_adapter.load_run(run)
  adapter = run_adapter.from_job(work, trained)
  assert set(adapter.fingerprint['formats'].values()) == {'nf4'}
  other = job.load(make_config(**VALUES | {'model.quantize': 'int8'}))
  with pytest.raises(ValueError, match=r'quantize=nf4 in the .* base, quantize=int8 in the model'):
    attach(adapter, other.model, run_adapter.base_params(other))
  _, frozen, _ = attach(adapter, work.model, run_adapter.base_params(work))
  assert quantization.kernels(frozen)
