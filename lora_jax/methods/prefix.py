"""Prefixes: trained vectors in the place of tokens, before the input (lp of them) and after (li).

The tokens are there like any others: their ids lie beyond the vocabulary, V, V + 1, ..., and
`Method.virtual` says how many, so that whoever makes the data puts them in (data/dataset.py:
`with_virtual`). Positions, masks, packing, losses and the cache of decoding need know nothing of
it. What a token with such an id is, the method says: by its embedding, or at every layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import stacking, tree
from lora_jax.methods import added
from lora_jax.methods.base import Method

NAME = 'virtual'
EMBEDDING = r'(.*/)?embeddings/word'


def prefix_embed(
  *,
  prefix: int,
  infix: int,
  targets: str | Sequence[str] = EMBEDDING,
  train: str | Sequence[str] = (),
) -> Method:
  """Prefix-embedding tuning (section 5.1): trained embeddings of lp + li tokens.

  They begin as the embeddings of words drawn from the vocabulary.

  Args:
    prefix: lp, tokens before the input.
    infix: li, tokens after it; a language model's target follows them.
    targets: pattern of the `nn.Embed` that looks words up.
    train: patterns of further leaves that are trained, the task head for instance.

  Raises:
    ValueError: for an option out of range; from `init`, for a pattern that matches nothing, or
      other than an embedding.
  """
  return _prefix('prefix_embed', prefix, infix, tree.as_patterns(targets), (), train)


def prefix_layer(
  *,
  prefix: int,
  infix: int,
  targets: str | Sequence[str] = stacking.LAYER,
  train: str | Sequence[str] = (),
) -> Method:
  """Prefix-layer tuning (section 5.1): what those tokens are at the input of every block.

  L d (lp + li) parameters, as the paper counts. It speaks of the activations after every block; of
  the two readings with L sets this is the one in which the last block's own output counts: replaced
  as well, what follows the infix would be predicted from a constant.

  Args:
    prefix, infix, train: as for `prefix_embed`.
    targets: pattern of the blocks, which take `virtual`: ids [R, L] less the vocabulary's size.

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
      raise ValueError(f'{name}: {option}={value!r}: a number of tokens, from 0 up')
  if not size:
    raise ValueError(f'{name}: prefix and infix are both 0: nothing would be trained')
  targets = blocks or embeddings

  def shapes(context: Any, path: str, y: Any, args: Any, kwargs: Any) -> Mapping[str, Any]:
    del args
    if not blocks and not isinstance(context.module, nn.Embed):
      kind = type(context.module).__name__
      raise ValueError(f'{name}: {path!r} is a {kind}, expected an nn.Embed')
    if blocks and 'virtual' not in kwargs:
      raise ValueError(
        f'{name}: {path!r} is not called with virtual=, so it cannot be known which columns are '
        'of the prefix (lora_jax/models/gpt2.py does it)'
      )
    return {'tokens': (size, y.shape[-1])}

  def init(
    key: jax.Array, model: nn.Module, params: tree.Params, *inputs: Any, **kwargs: Any
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    found = added.find(name, NAME, shapes, model, inputs, kwargs, targets)
    params = nn.unbox(params)
    leaves = tree.flatten(params)

    def initial(path: str, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
      if blocks:
        return 0.02 * jax.random.normal(key, shape, jnp.float32)
      table = leaves[path.removesuffix(f'{NAME}/tokens') + 'embedding']
      words = jax.random.choice(key, table.shape[0], (size,), replace=size > table.shape[0])
      return jnp.take(table, words, axis=0).astype(jnp.float32)

    frozen, chosen = tree.split(params, train)
    return frozen, tree.join(chosen, tree.unflatten(added.draw(key, found, initial)))

  def interceptor(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
    module = context.module
    if context.method_name != '__call__':
      return next_fun(*args, **kwargs)
    if isinstance(module, nn.Embed) and any(_matches(pattern, module) for pattern in embeddings):
      ids, *rest = args
      y = next_fun(jnp.minimum(ids, module.num_embeddings - 1), *rest, **kwargs)
      return y if blocks else _replaced(module, y, ids - module.num_embeddings)
    if blocks and module.has_variable('params', NAME):
      x, *rest = args
      return next_fun(_replaced(module, x, kwargs['virtual']), *rest, **kwargs)
    return next_fun(*args, **kwargs)

  def merge(frozen: tree.Params, trainable: tree.Params) -> dict[str, Any]:
    raise ValueError(
      f'{name} adds tokens to the input: no weights of the base model compute it without them. '
      'Serve it as it is, with `bind`.'
    )

  return Method(
    init=init,
    merge=merge,
    interceptor=interceptor,
    patterns=(*targets, *train),
    virtual=(prefix, infix),
  )


def _matches(pattern: str, module: nn.Module) -> bool:
  return re.fullmatch(pattern, '/'.join(module.path)) is not None


def _replaced(module: nn.Module, x: jax.Array, virtual: jax.Array) -> jax.Array:
  """x [R, L, d] with the trained vectors where `virtual` [R, L] is their number, not negative."""
  tokens = module.get_variable('params', NAME)['tokens'].astype(x.dtype)
  chosen = jnp.take(tokens, jnp.maximum(virtual, 0), axis=0, mode='clip')
  return jnp.where(virtual[..., None] >= 0, chosen, x)
