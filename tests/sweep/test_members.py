"""Members' parameters, padded to one shape and stacked."""

import jax.numpy as jnp
import numpy as np

from lora_jax.sweep import members


def test_padding_is_undone_and_fills_with_zeros():
  small = {'q': {'lora_a': jnp.ones((3, 2)), 'lora_b': jnp.ones((2, 5))}}
  large = {'q': {'lora_a': jnp.ones((3, 4))}, 'v': {'lora_a': jnp.ones((3, 4))}}
  both = members.stack([small, large])
  assert both['q']['lora_a'].shape == (2, 3, 4) and both['q']['lora_b'].shape == (2, 2, 5)
  assert not both['v']['lora_a'][0].any() and not both['q']['lora_a'][0][:, 2:].any()
  back = members.resize(members.take(both, 0), small)
  assert back.keys() == small.keys()
  np.testing.assert_array_equal(back['q']['lora_a'], small['q']['lora_a'])
