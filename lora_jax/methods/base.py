"""What a method is, and how one enters a model: `Method` and `bind`.

A method of adaptation is a value of pure functions, as an optax transformation is. Nothing outside
this package knows which one runs: the gradient, the optimizer state, a checkpoint and a sweep are
all trees of the shape of `trainable`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from lora_jax import tree

Params = tree.Params


class Method(NamedTuple):
  """A way to adapt a model.

  Attributes:
    init: `init(key, model, params, *inputs, **kwargs) -> (frozen, trainable)`. `inputs` and
      `kwargs` are what `model` is called with (arrays or `jax.ShapeDtypeStruct`s); only their
      shapes are used, nothing is computed. The pretrained arrays are passed on, not copied.
    merge: `merge(frozen, trainable) -> params`, the model's own tree again, or a ValueError that
      says why the method cannot be folded into it.
    interceptor: a `flax.linen` method interceptor, or None where the parameters alone do it.
    patterns: what the method was told to adapt and train, for `summarize`.
    virtual: numbers of tokens that the data has to put before and after each input, with ids from
      the vocabulary's size up (`methods/prefix.py`).
    scales: `scales(model, *inputs, **kwargs)`, or None: the numbers that the interceptor computes
      from the method's options, as a tree of leaves that it prefers to its own where they are among
      the parameters. So one program runs adapters that differ in them (`lora_jax/sweep`).
  """

  init: Callable[..., tuple[dict[str, Any], dict[str, Any]]]
  merge: Callable[[Params, Params], dict[str, Any]]
  interceptor: Callable[..., Any] | None = None
  patterns: tuple[str, ...] = ()
  virtual: tuple[int, int] = (0, 0)
  scales: Callable[..., dict[str, Any]] | None = None


def bind(apply: Callable[..., Any], method: Method) -> Callable[..., Any]:
  """The model's `apply` on the two parts: `apply(frozen, trainable, *args, **kwargs)`.

  Besides the model's own arguments the result takes `collections`, a mapping of further variable
  collections (`{'batch_stats': ...}`).

  Dropout that a method adds draws from the `dropout` stream, and a deterministic call is given
  none: where the call says `deterministic=True` (or `train=False`; the model's default counts), the
  stream is withheld. A model without such an argument has dropout exactly when it is given a key.

  Args:
    apply: `model.apply`, or any function with `{'params': ...}` first.
    method: the method whose `init` made the two parts.
  """

  def bound(
    frozen: Params,
    trainable: Params,
    *args: Any,
    collections: Mapping[str, Any] | None = None,
    **kwargs: Any,
  ) -> Any:
    variables = {'params': tree.join(frozen, trainable), **(collections or {})}
    rngs = kwargs.get('rngs')
    if isinstance(rngs, Mapping) and 'dropout' in rngs and _is_deterministic(apply, args, kwargs):
      kwargs['rngs'] = {name: key for name, key in rngs.items() if name != 'dropout'}
    intercept = (
      nn.intercept_methods(method.interceptor) if method.interceptor else contextlib.nullcontext()
    )
    with intercept:
      return apply(variables, *args, **kwargs)

  return bound


def _is_deterministic(
  apply: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bool:
  """Whether the call asks for no dropout, by the argument's usual names."""
  arguments = dict(kwargs)
  module = getattr(apply, '__self__', None)
  if isinstance(module, nn.Module):
    called = kwargs.get('method') or type(module).__call__
    called = getattr(type(module), called) if isinstance(called, str) else called
    signature = inspect.signature(called)
    own = {name: value for name, value in kwargs.items() if name in signature.parameters}
    with contextlib.suppress(TypeError):  # The model itself says better what is missing.
      call = signature.bind_partial(module, *args, **own)
      call.apply_defaults()
      arguments = dict(call.arguments)
  if isinstance(arguments.get('deterministic'), bool):
    return arguments['deterministic']
  return any(arguments.get(name) is False for name in ('train', 'training', 'is_training'))
