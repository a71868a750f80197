"""The optimizer: its schedule, and what weight decay applies to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_jax import tree
from lora_jax.methods import lora
from lora_jax.train import optimizer


def steps(config, params, groups, gradient=0.0):
  """The first update, at the full rate."""
  of = optimizer.hyperparameters(config.optim, 10)._replace(warmup=0)
  tx = optimizer.transformation(config.optim, of, groups)
  gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), params)
  return tx.update(gradients, tx.init(params), params)[0]


def is_adam(node):
  return isinstance(node, optax.ScaleByAdamState)


def test_decay_skips_biases_norms_and_what_is_fixed_and_has_no_moments(make_config):
  params = {
    'query': {'kernel': 1, 'bias': 1, 'lora_a': 1, 'lora_b': 1},
    'norm': {'scale': 1, 'bias': 1},
    'word': {'embedding': 1},
  }
  config = make_config(**{'optim.weight_decay': 0.1})
  params = jax.tree.map(jnp.float32, params)
  groups = optimizer.Groups(fixed=lambda path: path == 'query/lora_a')
  found = tree.flatten(steps(config, params, groups))
  assert sorted(path for path, x in found.items() if x == 0) == [
    'norm/bias', 'norm/scale', 'query/bias', 'query/lora_a',
  ]  # fmt: skip
  tx, _ = optimizer.make_optimizer(config.optim, 10, groups)
  (moments,) = (x for x in jax.tree.leaves(tx.init(params), is_leaf=is_adam) if is_adam(x))
  assert tree.flatten(moments.mu).keys() == tree.flatten(params).keys() - {'query/lora_a'}


def test_lora_plus_multiplies_the_update_of_the_factor_that_starts_at_zero(make_config):
  params = {
    'query': {'lora_a': jnp.ones(2), 'lora_b': jnp.ones(2), 'bias': jnp.ones(2)},
    'word': {'lora_a': jnp.ones(2), 'lora_b': jnp.ones(2)},
  }
  frozen = {'query': {'kernel': 0}, 'word': {'embedding': 0}}
  groups = optimizer.groups(lora(rank=1, alpha=1.0), frozen)
  both = {'optim.weight_decay': 0.1, 'optim.clip': 1.0}
  plain = tree.flatten(steps(make_config(**both), params, groups, 1.0))
  plus = make_config(**both, **{'optim.lora_plus': 16.0})
  for path, x in tree.flatten(steps(plus, params, groups, 1.0)).items():
    factor = 16 if path in ('query/lora_b', 'word/lora_a') else 1
    np.testing.assert_array_equal(x, factor * plain[path], err_msg=path)


def test_schedule_is_the_trainers(make_config):
  """Hugging Face's linear schedule: the first update has rate 0, the peak is after the warm-up."""
  config = make_config(**{'optim.lr': 2.0, 'optim.warmup_ratio': 0.06})
  _, schedule = optimizer.make_optimizer(config.optim, 50)
  warmup = 3
  expected = [2.0 * (i / warmup if i < warmup else (50 - i) / (50 - warmup)) for i in range(51)]
  np.testing.assert_allclose([schedule(i) for i in range(51)], expected, atol=1e-6)


def test_warmup_steps_take_precedence_over_the_ratio(make_config):
  config = make_config(**{'optim.warmup_ratio': 0.06, 'optim.warmup_steps': 7})
  assert optimizer.hyperparameters(config.optim, 50).warmup == 7
  with pytest.raises(ValueError, match=r'optim\.warmup_steps=7 exceeds the 5 steps'):
    optimizer.hyperparameters(config.optim, 5)


@pytest.mark.parametrize('warmup', ['warmup_ratio', 'warmup_steps'])
def test_a_run_that_is_one_step_of_warmup_is_refused(make_config, warmup):
  """It would train nothing; at rate 0, without a warm-up or of two steps it is as asked for."""
  none = {'optim.warmup_ratio': 0.0, 'optim.warmup_steps': 0}
  values = {**none, f'optim.{warmup}': {'warmup_ratio': 0.06, 'warmup_steps': 1}[warmup]}
  config = make_config(**values).optim
  with pytest.raises(ValueError, match=r'the run has 1 step, .*config\.optim\.warmup_ratio=0'):
    optimizer.check_rates(config, 1)
  for fine, steps in ((config, 2), (make_config(**none).optim, 1)):
    optimizer.check_rates(fine, steps)
    _, schedule = optimizer.make_optimizer(fine, steps)
    assert max(schedule(step) for step in range(steps)) > 0
  optimizer.check_rates(make_config(**values, **{'optim.lr': 0.0}).optim, 1)
