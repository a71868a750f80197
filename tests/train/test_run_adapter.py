"""The adapter of a job: its base is the model without what the method adds or trains."""

import jax
import numpy as np
import pytest

from lora_jax import stacking, tree
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.train import job, run_adapter


@pytest.mark.parametrize('method', ['lora', 'bitfit', 'full', 'adapter_h'])
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
  adapter = run_adapter.from_job(work, changed)
  assert adapter.fingerprint == fingerprint(params, work.model.config)
  expected = tree.flatten(stacking.unstack(changed))
  for path, leaf in tree.flatten(adapter.trainable).items():
    np.testing.assert_array_equal(leaf, expected[path], err_msg=path)
  assert (adapter.base, adapter.task) == (config.model.name, work.task.kind)
