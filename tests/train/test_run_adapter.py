"""The adapter of a job: its base is the model without what the method adds or trains."""

import jax
import numpy as np
import pytest

from lora_jax import stacking, tree
from lora_jax.adapters import adapter, native
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.train import job, run_adapter
from tests.train.runs import trained


@pytest.mark.parametrize('method', ['lora', 'bitfit', 'full', 'adapter_h', 'intrinsic'])
def test_the_base_of_a_job_is_its_model_without_the_method(method, make_config):
  config = make_config(method)
  work = job.load(config)
  _, params = job.load_base(config, work.task)
  base = run_adapter.base_params(work)
  assert set(tree.paths(base)) == set(tree.paths(params))
  leaves = tree.flatten(base)
  for path, leaf in tree.flatten(params).items():
    np.testing.assert_array_equal(leaves[path], leaf, err_msg=path)
  changed = jax.tree.map(lambda x: x + 1, work.trainable)
  found = run_adapter.from_job(work, changed)
  assert found.fingerprint == fingerprint(params, work.model.config)
  expected = tree.flatten(stacking.unstack(changed))
  for path, leaf in tree.flatten(found.trainable).items():
    np.testing.assert_array_equal(leaf, expected[path], err_msg=path)
  assert (found.base, found.task) == (config.model.name, work.task.kind)


def test_a_run_becomes_an_adapter_of_its_base(finished, saved, work, make_config):
  found = native.read(saved)
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
  assert found.fingerprint == fingerprint(merged, work.model.config)
  adapter.check_base(found, above.model, merged)
  with pytest.raises(ValueError, match=r'values of .*attention/query/kernel'):
    adapter.check_base(found, above.model, run_adapter.base_params(work))
