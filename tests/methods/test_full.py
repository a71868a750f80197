"""Full fine-tuning trains everything."""

import jax
import numpy as np

from lora_jax import bind, count, full
from tests.methods.toys import adapted


def test_full_fine_tuning_trains_everything():
  method = full()
  model, params, frozen, trainable, x = adapted('scan', method)
  assert frozen == {}
  assert count(trainable) == count(params)
  jax.tree.map(np.testing.assert_array_equal, method.merge(frozen, trainable), params)
  expected = model.apply({'params': params}, x)
  np.testing.assert_array_equal(bind(model.apply, method)(frozen, trainable, x), expected)
