"""Trained vectors in the place of tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import methods, tree
from tests.methods.laws import FAMILIES, VOCABULARY, adapted_model, batch, move


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', ['prefix_embed', 'prefix_layer', 'adapter_p'])
def test_packed_equals_alone(name, family):
  """What a segment's output is does not depend on the other in its row."""
  model, _, method, frozen, trainable = adapted_model(name, family)
  apply = jax.jit(methods.bind(model.apply, method))
  trainable, inputs = move(trainable), batch(name)
  packed = apply(frozen, trainable, **inputs)
  rows, length = inputs['input_ids'].shape
  ids, segments = np.zeros((2, rows, length), np.int32)
  for row in range(rows):  # Padded to one shape: a compilation.
    own = np.flatnonzero(inputs['segment_ids'][row] == 2)
    ids[row, : len(own)], segments[row, : len(own)] = inputs['input_ids'][row, own], 1
  first = np.zeros((rows, 1), np.int32)
  alone = apply(frozen, trainable, input_ids=ids, segment_ids=segments, prediction_positions=first)
  np.testing.assert_allclose(alone[:, 0], packed[:, 1], atol=1e-5 * np.abs(packed).max())


def test_an_embedded_prefix_of_words_is_those_words():
  model, _, method, frozen, trainable = adapted_model('prefix_embed', 'gpt2')
  table = tree.flatten(tree.join(frozen, trainable))['embeddings/word/embedding']
  words = jnp.array([7, 8, 9, 3, 4])
  leaves = tree.flatten(trainable) | {'embeddings/word/virtual/tokens': table[words]}
  inputs = batch('prefix_embed')
  virtual = inputs['input_ids'] - VOCABULARY
  plain = jnp.where(virtual >= 0, words[jnp.maximum(virtual, 0)], inputs['input_ids'])
  found = methods.bind(model.apply, method)(frozen, tree.unflatten(leaves), **inputs)
  expected = model.apply({'params': frozen}, **inputs | {'input_ids': plain})
  np.testing.assert_allclose(found, expected, atol=1e-5)


class Words(nn.Module):
  """Looks words up with the ids as a keyword argument."""

  @nn.compact
  def __call__(self, ids):
    return nn.Embed(5, 2, name='word')(inputs=ids)


def test_ids_may_be_a_keyword_argument():
  model, ids = Words(), jnp.array([[5, 1, 6]])
  params = model.init(jax.random.key(0), ids)['params']
  method = methods.prefix_embed(prefix=1, infix=1, targets='word')
  frozen, trainable = method.init(jax.random.key(1), model, params, ids)
  found = methods.bind(model.apply, method)(frozen, trainable, ids)
  tokens = trainable['word']['virtual']['tokens']
  np.testing.assert_array_equal(found[0], [tokens[0], params['word']['embedding'][1], tokens[1]])
