"""The layers that all decoders share: each family's is one, with the same two branches."""

import jax
import jax.numpy as jnp
import pytest

from lora_jax import tree
from lora_jax.models import decoder, gpt2, llama, presets


@pytest.mark.parametrize('family, own', [('gpt2', gpt2), ('llama', llama)])
def test_a_familys_layer_has_two_branches_behind_norms(family, own):
  assert issubclass(own.DecoderLayer, decoder.DecoderLayer)
  sizes = dict(vocab_size=11, hidden_size=8, num_layers=1, num_heads=2, max_positions=8)
  model = presets.build(presets.architecture(family, **sizes), task='lm')
  params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))['params']
  paths = tree.flatten(params['decoder']['layers_0'])
  assert {path.split('/')[0] for path in paths} == {
    'attention_norm',
    'attention',
    'mlp_norm',
    'mlp',
  }
