"""Where the factors of LoRA start, by loralib's rule and by parts of the weight."""

import numpy as np
import pytest

from lora_jax import lora, tree
from tests.methods.toys import CASES, KEY, X, adapted


@pytest.mark.parametrize('name', ['loop', 'scan'])
def test_initialization_is_loralibs(name):
  model, params, x = CASES[name][0], CASES[name][0].init(KEY, X)['params'], X
  method = lora(rank=500, alpha=1.0, targets=r'.*/query')
  _, trainable = method.init(KEY, model, params, x)
  leaves = tree.flatten(trainable)
  a = np.concatenate([np.ravel(leaf) for path, leaf in leaves.items() if path.endswith('lora_a')])
  bound = 1 / np.sqrt(6)  # fan_in is 6 in each layer, stacked or not.
  assert 0.99 * bound < np.abs(a).max() <= bound
  np.testing.assert_allclose(a.std(), bound / np.sqrt(3), rtol=0.02)
  assert all(not leaf.any() for path, leaf in leaves.items() if path.endswith('lora_b'))
  normal = lora(rank=500, alpha=1.0, targets=r'.*/query', init='normal')
  _, trainable = normal.init(KEY, model, params, x)
  a = np.concatenate(
    [np.ravel(leaf) for path, leaf in tree.flatten(trainable).items() if path.endswith('lora_a')]
  )
  np.testing.assert_allclose(a.std(), 0.02, rtol=0.02)


def test_adding_a_target_changes_no_other_factor():
  model, params, x = CASES['loop'][0], CASES['loop'][0].init(KEY, X)['params'], X
  few = lora(rank=2, alpha=1, targets='.*/query').init(KEY, model, params, x)[1]
  more = lora(rank=2, alpha=1, targets=('.*/query', '.*/out')).init(KEY, model, params, x)[1]
  first = lambda parts: parts['layers_0']['query']['lora_a']
  np.testing.assert_array_equal(first(few), first(more))
  assert (first(few) != few['layers_1']['query']['lora_a']).all()


def test_an_embeddings_roles_are_swapped():
  _, _, _, trainable, _ = adapted('embed', lora(rank=400, alpha=1.0))
  factors = trainable['query']
  assert not factors['lora_a'].any()
  np.testing.assert_allclose(factors['lora_b'].std(), 1.0, rtol=0.05)
