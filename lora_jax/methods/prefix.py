"""Prefixes: trained vectors in the place of tokens, lp of them before the input and li after it.

These virtual tokens are part of the input like any others. Their ids lie beyond the vocabulary: V,
V + 1, ... `Method.virtual` says how many of them the data has to contain (`with_virtual` in
data/dataset.py adds them). Positions, masks, packing, losses and the cache of decoding need no
special case. The method supplies the vectors of these ids: their embeddings, or their states at the
input of every layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lora_jax import stacking, tree
from lora_jax.methods import added
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.interception import Args, Context, Kwargs, Next
from lora_jax.methods.models import Model
from lora_jax.methods.options import recorded

NAME = 'virtual'
EMBEDDING = r'(.*/)?embeddings/word'


@recorded
def prefix_embed(
  *,
  prefix: int,
  infix: int,
  targets: str | Sequence[str] = EMBEDDING,
  train: str | Sequence[str] = (),
) -> Method:
  """Prefix-embedding tuning (section 5.1): trained embeddings of lp + li tokens.

  They are initialized with the embeddings of words drawn from the vocabulary.

  Args:
    prefix: lp, the number of tokens before the input.
    infix: li, the number of tokens after it; a language model's target follows them.
    targets: pattern of the `nn.Embed` that looks words up.
    train: patterns of further leaves that are trained, the task head for instance.

  Raises:
    ValueError: for an option out of range; from `init`, for a pattern that matches nothing, or a
      module that is not an embedding.
  """
  return _prefix('prefix_embed', prefix, infix, tree.as_patterns(targets), (), train)


@recorded
def prefix_layer(
  *,
  prefix: int,
  infix: int,
  targets: str | Sequence[str] = stacking.LAYER,
  train: str | Sequence[str] = (),
) -> Method:
  """Prefix-layer tuning (section 5.1): trained states of lp + li tokens at every block.

  It has L d (lp + li) parameters, as the paper counts. The paper speaks of the activations after
  every block. Two readings have L sets of vectors; in this one the output of the last block is not
  replaced, for then what follows the infix would be predicted from a constant.

  Args:
    prefix, infix, train: as for `prefix_embed`.
    targets: pattern of the blocks, which are called with `virtual`: ids [R, L] less the
      vocabulary's size.

  Raises:
    ValueError: as `prefix_embed`; from `init`, for blocks that do not take `virtual`.
  """
  return _prefix('prefix_layer', prefix, infix, (EMBEDDING,), tree.as_patterns(targets), train)


def _prefix(
  name: str,
  prefix: int,
  infix: int,
  embeddings: tuple[str, ...],
  blocks: tuple[str, ...],
  train: str | Sequence[str],
) -> Method:
  train, size = tree.as_patterns(train), prefix + infix
  for option, value in (('prefix', prefix), ('infix', infix)):
    if not isinstance(value, int) or value < 0:
      raise ValueError(f'{name}: {option}={value!r}: expected a number of tokens from 0 up')
  if not size:
    raise ValueError(f'{name}: prefix and infix are both 0, so nothing would be trained')
  targets = blocks or embeddings

  def shapes(call: added.Call) -> Mapping[str, added.Shape]:
    if not blocks and not isinstance(call.module, nn.Embed):
      kind = type(call.module).__name__
      raise ValueError(f'{name}: {call.path!r} is a {kind}, expected an nn.Embed')
    if blocks and 'virtual' not in call.kwargs:
      raise ValueError(
        f'{name}: {call.path!r} is not called with virtual=, which says what columns hold the '
        'prefix. Pass it to each block, as lora_jax/models/gpt2.py does.'
      )
    return {'tokens': (size, call.output.shape[-1])}

  def init(
    key: jax.Array, model: Model, params: Params, *inputs: Any, **kwargs: Any
  ) -> tuple[Tree, Tree]:
    found = added.find(name, NAME, shapes, model, inputs, kwargs, targets)
    params = nn.unbox(params)
    leaves = tree.flatten(params)

    def initial(path: str, shape: added.Shape, key: jax.Array) -> jax.Array:
      if blocks:
        return 0.02 * jax.random.normal(key, shape, jnp.float32)
      table = leaves[path.removesuffix(f'{NAME}/tokens') + 'embedding']
      words = jax.random.choice(key, table.shape[0], (size,), replace=size > table.shape[0])
      return jnp.take(table, words, axis=0).astype(jnp.float32)

    frozen, chosen = tree.split(params, train)
    return frozen, tree.join(chosen, tree.unflatten(added.draw(key, found, initial)))

  def interceptor(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    module = context.module
    if context.method_name != '__call__':
      return next_fun(*args, **kwargs)
    if isinstance(module, nn.Embed) and any(_matches(pattern, module) for pattern in embeddings):
      ids, *rest = args or (kwargs.pop('inputs'),)
      y = next_fun(jnp.minimum(ids, module.num_embeddings - 1), *rest, **kwargs)
      return y if blocks else _replace(module, y, ids - module.num_embeddings)
    if blocks and module.has_variable('params', NAME):
      x, *rest = args
      return next_fun(_replace(module, x, kwargs['virtual']), *rest, **kwargs)
    return next_fun(*args, **kwargs)

  def merge(frozen: Params, trainable: Params) -> Tree:
    raise ValueError(
      f'{name} adds tokens to the input: no weights of the base model compute it without them. '
      'Serve the adapted model with `bind`.'
    )

  return Method(
    init=init,
    merge=merge,
    interceptor=interceptor,
    patterns=(*targets, *train),
    virtual=(prefix, infix),
    program=(name, prefix, infix, targets, train),
  )


def _matches(pattern: str, module: nn.Module) -> bool:
  return re.fullmatch(pattern, '/'.join(module.path)) is not None


Ids = Int[jax.Array | np.ndarray, 'rows length']


def _replace(
  module: nn.Module, x: Float[Array, 'rows length d'], virtual: Ids
) -> Float[Array, 'rows length d']:
  """x with the trained vectors in virtual tokens' columns; elsewhere `virtual` is negative."""
  tokens = module.get_variable('params', NAME)['tokens'].astype(x.dtype)
  chosen = jnp.take(tokens, jnp.maximum(virtual, 0), axis=0, mode='clip')
  return jnp.where(virtual[..., None] >= 0, chosen, x)
