"""What a method is, and how one enters a model: `Method` and `bind`.

A method of adaptation is a value of pure functions, as an optax transformation is. The gradient,
the optimizer state, a checkpoint and a sweep are all trees of the shape of `trainable`, so nothing
outside this package knows which method runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax

from lora_jax import quantization, tree
from lora_jax.methods import parts
from lora_jax.methods.interception import Interceptor, intercepted
from lora_jax.tree import Params, Tree


class InitFn(Protocol):
  def __call__(
    self, key: jax.Array, model: nn.Module, params: Params, *inputs: Any, **kwargs: Any
  ) -> tuple[Tree, Tree]:
    """Splits a model's parameters into (frozen, trainable), adding the method's own to the latter.

    Args:
      key: random key of the parameters that the method adds.
      model: the model.
      params: its parameters, `variables['params']`. They are passed on, not copied.
      *inputs, **kwargs: what the model is called with, arrays or `jax.ShapeDtypeStruct`s. Only
        their shapes are used; nothing is computed.
    """
    ...


class MergeFn(Protocol):
  def __call__(self, frozen: Params, trainable: Params, /) -> Tree:
    """Folds the two parts into the model's own parameters.

    Raises:
      ValueError: that says why the method cannot be folded into them.
    """
    ...


class FollowsFn(Protocol):
  def __call__(self, path: str) -> tuple[str, tuple[int | None, ...]] | None:
    """The weight that a leaf of the method is sharded like, or None: `.../query/lora_a` gives
    `('.../query/kernel', (0, None))`, the axis of the kernel that each of its dimensions follows.
    """
    ...


class ScalesFn(Protocol):
  def __call__(self, model: nn.Module, *inputs: Any, **kwargs: Any) -> Tree:
    """Leaves that the interceptor prefers to the method's options, if they are joined with the
    parameters. So one program runs members of a sweep that differ in them.
    """
    ...


class Method(NamedTuple):
  """A way to adapt a model.

  Attributes:
    init, merge: split a model's parameters in two, and fold the two parts into one model again.
    interceptor: how the method enters the forward pass; None if its parameters alone do.
    runs_merged: whether the model runs on what `merge` returns, not on the two parts joined.
    patterns: the regular expressions of module and leaf paths that the method adapts or trains, in
      the order in which `summarize` lists them.
    virtual: how many tokens the data must put before and after each input. Their ids start at the
      vocabulary's size, and the method supplies their vectors (`methods/prefix.py`).
    program: all options that the compiled program depends on, as JSON values. Runs of one model
      with equal programs can be members of one group of a sweep; `scales` holds the rest.
    follows: how the leaves that the method adds lie on a mesh of devices.
    scales: numbers in which the members of a group may differ.
    fixed: whether a leaf of the trainable part is only kept there, by its path: no gradient reaches
      it, and the optimizer leaves it. So what a method draws beside the base is saved with the run.
  """

  init: InitFn
  merge: MergeFn
  interceptor: Interceptor | None = None
  runs_merged: bool = False
  patterns: tuple[str, ...] = ()
  virtual: tuple[int, int] = (0, 0)
  program: tuple[object, ...] = ()
  follows: FollowsFn = lambda path: None
  scales: ScalesFn = lambda model, *inputs, **kwargs: {}
  fixed: Callable[[str], bool] = lambda path: False

  @property
  def freezes(self) -> bool:
    """Whether the method leaves any of the model's parameters frozen."""
    return '.*' not in self.patterns


def bind(apply: Callable[..., Any], method: Method) -> Callable[..., Any]:
  """The model's `apply` on the two parts: `apply(frozen, trainable, *args, **kwargs)`.

  Besides the model's own arguments the result takes `collections`, a mapping of further variable
  collections (`{'batch_stats': ...}`).

  Dropout that a method adds draws from the `dropout` stream. A deterministic call is not given that
  stream: one with `deterministic=True` or `train=False`, by the model's default if not by argument.
  A model without such an argument has dropout exactly when it is given a key.

  Plain `model.apply` on the joined parts computes the base without a word, for Flax ignores leaves
  that a model does not know; `method.merge` gives parameters for it.

  Args:
    apply: `model.apply`, or any function with `{'params': ...}` first.
    method: the method whose `init` made the two parts.

  Raises:
    TypeError, ValueError: from the result, if a part was left out, or LoRA's two are swapped.
  """

  def bound(
    frozen: Params,
    trainable: Params,
    *args: Any,
    collections: Mapping[str, Any] | None = None,
    **kwargs: Any,
  ) -> Any:
    parts.check(method.follows, frozen, trainable)
    params = (method.merge if method.runs_merged else tree.join)(frozen, trainable)
    variables = {'params': params, **(collections or {})}
    codes = quantization.interceptor if quantization.kernels(frozen) else None
    rngs = kwargs.get('rngs')
    if isinstance(rngs, Mapping) and 'dropout' in rngs and _is_deterministic(apply, args, kwargs):
      kwargs['rngs'] = {name: key for name, key in rngs.items() if name != 'dropout'}
    with intercepted(method.interceptor), intercepted(codes):
      return apply(variables, *args, **kwargs)

  return bound


def _is_deterministic(
  apply: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bool:
  """Whether a call asks for no dropout, by an argument or by the model's default for it."""
  arguments = dict(kwargs)
  module = getattr(apply, '__self__', None)
  if isinstance(module, nn.Module):
    name = kwargs.get('method') or '__call__'
    function = getattr(type(module), name) if isinstance(name, str) else name
    parameters = list(inspect.signature(function).parameters.values())
    positional = dict(zip([parameter.name for parameter in parameters[1:]], args))
    arguments = {parameter.name: parameter.default for parameter in parameters}
    arguments |= positional | dict(kwargs)
  if isinstance(arguments.get('deterministic'), bool):
    return arguments['deterministic']
  return any(arguments.get(name) is False for name in ('train', 'training', 'is_training'))
