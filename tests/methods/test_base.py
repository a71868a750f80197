"""How a method enters a model: further collections, and when dropout is on."""

import flax.linen as nn
import jax
import numpy as np

from lora_jax import bind, lora
from tests.methods.toys import IMAGE, KEY, METHOD, adapted, disturbed


def test_other_collections_pass_through():
  class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
      x = nn.Conv(4, (3, 3), name='query')(x)
      return nn.BatchNorm(use_running_average=not train)(x)

  model = Normed()
  variables = model.init(KEY, IMAGE)
  frozen, trainable = METHOD.init(KEY, model, variables['params'], IMAGE)
  stats = {'batch_stats': variables['batch_stats']}
  apply = bind(model.apply, METHOD)
  expected = model.apply(variables, IMAGE)
  np.testing.assert_array_equal(apply(frozen, trainable, IMAGE, collections=stats), expected)
  _, updated = apply(
    frozen, trainable, IMAGE, train=True, collections=stats, mutable=['batch_stats']
  )
  assert 'batch_stats' in updated


def test_dropout_is_off_when_deterministic():
  method = lora(rank=2, alpha=1, dropout=0.5)
  for name in ('loop', 'scan', 'remat'):
    model, _, frozen, trainable, x = adapted(name, method)
    trainable = disturbed(trainable)
    apply = bind(model.apply, method)
    rngs = {'dropout': jax.random.key(5)}
    clean = apply(frozen, trainable, x)
    # Said by keyword, by position, or left to the model's default: all are deterministic.
    np.testing.assert_array_equal(clean, apply(frozen, trainable, x, deterministic=True, rngs=rngs))
    np.testing.assert_array_equal(clean, apply(frozen, trainable, x, True, rngs=rngs))
    np.testing.assert_array_equal(clean, apply(frozen, trainable, x, rngs=rngs))
    noisy = apply(frozen, trainable, x, deterministic=False, rngs=rngs)
    assert np.abs(noisy - clean).max() > 1e-2
    other = apply(frozen, trainable, x, False, rngs={'dropout': jax.random.key(6)})
    assert np.abs(noisy - other).max() > 1e-2
