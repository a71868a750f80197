"""The optimizer: its schedule, and what weight decay applies to."""

import numpy as np
import pytest

from lora_jax import tree
from lora_jax.train import optimizer


def test_decay_skips_biases_and_norms():
  params = {
    'query': {'kernel': 1, 'bias': 1, 'lora_a': 1, 'lora_b': 1},
    'norm': {'scale': 1, 'bias': 1},
    'word': {'embedding': 1},
  }
  skipped = [path for path, yes in tree.flatten(optimizer.decays(params)).items() if not yes]
  assert skipped == ['query/bias', 'norm/scale', 'norm/bias']


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
