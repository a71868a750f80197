"""Several methods at once, as `lora` and `prefix_embed` in table 15 of the paper."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from lora_jax import tree
from lora_jax.methods.base import Method


def compose(*methods: Method) -> Method:
  """All of the methods: what any of them trains is trained, what any adds to a module is added.

  The first one is the innermost around a module, but a prefix is around all others: the ids of its
  tokens are beyond the vocabulary, and no other method knows them. Merging folds each into the
  model, so it raises the error of the first that cannot be folded.

  Raises:
    ValueError: from `init`, for two methods of one kind: each would apply the other's parameters as
      well as its own.
  """

  def init(
    key: jax.Array, model: nn.Module, params: tree.Params, *inputs: Any, **kwargs: Any
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    leaves = tree.flatten(nn.unbox(params))
    trained: dict[str, Any] = {}
    for method, own in zip(methods, jax.random.split(key, len(methods)), strict=True):
      _, found = method.init(own, model, params, *inputs, **kwargs)
      found = tree.flatten(found)
      if both := _added(trained, leaves) & _added(found, leaves):
        raise ValueError(
          f'two of the composed methods are of one kind: both add leaves named {sorted(both)}, and '
          'each would apply those of the other as well. Make it one method; `lora` takes several '
          'targets, and a mapping from pattern to number as rank and alpha.'
        )
      trained |= found  # A task head is the same leaf in each.
    frozen = {path: leaf for path, leaf in leaves.items() if path not in trained}
    return tree.unflatten(frozen), tree.unflatten(trained)

  inside_out = sorted(methods, key=lambda method: any(method.virtual))
  interceptors = [method.interceptor for method in inside_out if method.interceptor]

  def interceptor(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
    for inner in interceptors:
      next_fun = functools.partial(_call, inner, next_fun, context)
    return next_fun(*args, **kwargs)

  def merge(frozen: tree.Params, trainable: tree.Params) -> dict[str, Any]:
    params = tree.join(frozen, trainable)
    for method in methods:
      params = method.merge(params, {})
    return params

  def scales(model: nn.Module, *inputs: Any, **kwargs: Any) -> dict[str, Any]:
    found = (method.scales(model, *inputs, **kwargs) for method in methods if method.scales)
    return tree.join(*found)

  return Method(
    init=init,
    merge=merge,
    interceptor=interceptor if interceptors else None,
    scales=scales,
    patterns=tuple(dict.fromkeys(p for method in methods for p in method.patterns)),
    virtual=tuple(max(counts) for counts in zip(*(method.virtual for method in methods))),
  )


def _added(trained: Mapping[str, Any], leaves: Mapping[str, Any]) -> set[str]:
  """Names, without the modules, of what is trained and is not the model's own."""
  return {path.rpartition('/')[2] for path in trained if path not in leaves}


def _call(inner: Any, next_fun: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
  return inner(next_fun, args, kwargs, context)
