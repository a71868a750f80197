"""Several methods at once, as `lora` and `prefix_embed` in table 15 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from lora_jax import errors, tree
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.interception import Args, Context, Kwargs, Next, chained
from lora_jax.methods.lowrank import MAGNITUDE
from lora_jax.methods.models import Model


def compose(*methods: Method) -> Method:
  """Applies all of the methods: their trained leaves and their additions to modules are combined.

  The first method is the innermost around a module, except that a prefix is around all others: the
  ids of its tokens are beyond the vocabulary, and no other method knows them. Merging folds each
  method into the model, so it raises the error of the first one that cannot be folded.

  Raises:
    ValueError: if no method is given; for a method that moves all parameters, those of the others
      among them; from `init`, for two methods of one kind, each of which would apply the other's
      parameters as well as its own, and for DoRA after another method of its modules.
  """
  if not methods:
    raise ValueError('compose: expected one method or more, found none')
  if any(method.runs_merged for method in methods):
    raise ValueError('intrinsic moves all parameters, so it cannot be composed with another method')

  def init(
    key: jax.Array, model: Model, params: Params, *inputs: Any, **kwargs: Any
  ) -> tuple[Tree, Tree]:
    leaves = tree.flatten(nn.unbox(params))
    trained: Tree = {}
    for method, own in zip(methods, jax.random.split(key, len(methods)), strict=True):
      _, found = method.init(own, model, params, *inputs, **kwargs)
      found = tree.flatten(found)
      if both := _added(trained, leaves) & _added(found, leaves):
        raise ValueError(
          f'two of the composed methods are of one kind: both add leaves named {sorted(both)}, and '
          'each would apply those of the other as well. Use one method instead: `lora` takes '
          'several targets, and a mapping from pattern to number as rank and alpha.'
        )
      adapted = {_module(path) for path in trained if path not in leaves}
      late = [path for path in found if path.endswith(MAGNITUDE) and _module(path) in adapted]
      if late:
        raise ValueError(
          f'{errors.listed(late)}: DoRA scales the weight with its own update alone, so it comes '
          'before other methods of the same modules: compose(lora(dora=True, ...), ...).'
        )
      trained |= found  # A task head is the same leaf in each.
    frozen = {path: leaf for path, leaf in leaves.items() if path not in trained}
    return tree.unflatten(frozen), tree.unflatten(trained)

  inside_out = sorted(methods, key=lambda method: any(method.virtual))
  interceptors = [method.interceptor for method in inside_out if method.interceptor]

  def interceptor(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    return chained(interceptors, next_fun, context)(*args, **kwargs)

  def merge(frozen: Params, trainable: Params) -> Tree:
    params = tree.join(frozen, trainable)
    for method in methods:
      params = method.merge(params, {})
    return params

  def follows(path: str) -> tuple[str, tuple[int | None, ...]] | None:
    return next((found for method in methods if (found := method.follows(path))), None)

  def scales(model: Model, *inputs: Any, **kwargs: Any) -> Tree:
    return tree.join(*(method.scales(model, *inputs, **kwargs) for method in methods))

  prefixes, infixes = zip(*(method.virtual for method in methods))

  return Method(
    init=init,
    merge=merge,
    interceptor=interceptor if interceptors else None,
    patterns=tuple(dict.fromkeys(p for method in methods for p in method.patterns)),
    virtual=(max(prefixes), max(infixes)),
    program=tuple(method.program for method in methods),
    follows=follows,
    scales=scales,
    fixed=lambda path: any(method.fixed(path) for method in methods),
    options={'name': 'compose', 'methods': tuple(method.options for method in methods)},
  )


def _module(path: str) -> str:
  """The module that a leaf lies in."""
  return path.rpartition('/')[0]


def _added(trained: Mapping[str, Any], leaves: Mapping[str, Any]) -> set[str]:
  """Names, without the modules, of the trained leaves that are not the model's own."""
  return {path.rpartition('/')[2] for path in trained if path not in leaves}
