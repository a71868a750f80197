"""Classification heads, the same as Hugging Face's for each family.

Few positions reach a head, so it runs in float32 whatever the compute dtype. A head is a function
that makes its modules inside the model that calls it, so that their paths are at the top of the
tree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import ops
from lora_jax.models import layers

Dropout = Callable[[jax.Array], jax.Array]


def bert(
  x: jax.Array,
  num_labels: int,
  *,
  std: float,
  dropout: Dropout,
  activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
) -> jax.Array:
  """x [..., width] to logits [..., num_labels]: pooler with activation, dropout, classifier."""
  options = layers.Options()
  x = x.astype(jnp.float32)
  x = activation(layers.dense(x.shape[-1], options, std, 'pooler')(x))
  return layers.dense(num_labels, options, std, 'classifier')(dropout(x))


class RobertaHead(nn.Module):
  """Dropout, dense with tanh, dropout, output."""

  num_labels: int
  std: float

  @nn.compact
  def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
    options = layers.Options()
    x = jnp.tanh(layers.dense(x.shape[-1], options, self.std, 'dense')(dropout(x)))
    return layers.dense(self.num_labels, options, self.std, 'output')(dropout(x))


def roberta(x: jax.Array, num_labels: int, *, std: float, dropout: Dropout) -> jax.Array:
  """x [..., width] to logits [..., num_labels]."""
  head = RobertaHead(num_labels, std, name='classifier')
  return head(x.astype(jnp.float32), dropout)


def llama(x: jax.Array, num_labels: int, *, std: float) -> jax.Array:
  """x [..., width] to logits [..., num_labels], without bias or dropout."""
  options = layers.Options()
  return layers.dense(num_labels, options, std, 'score', biased=False)(x.astype(jnp.float32))


deberta = functools.partial(bert, activation=ops.ACTIVATIONS['gelu'])

LLAMAS = ('llama', 'mistral', 'qwen2', 'qwen3')  # As Hugging Face's `model_type` names them.
HEADS = {'bert': bert, 'roberta': roberta, 'deberta-v2': deberta}
POOLED = (r'pooler/.*', r'classifier/.*')
PATHS = {
  'bert': POOLED,
  'roberta': (r'classifier/.*',),
  'deberta-v2': POOLED,
  **dict.fromkeys(LLAMAS, (r'score/.*',)),
}
