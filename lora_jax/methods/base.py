"""What a method is, and how one enters a model: `Method` and `bind`.

A method of adaptation is a value of pure functions, as an optax transformation is. The gradient,
the optimizer state, a checkpoint and a sweep are all trees of the shape of `trainable`, so nothing
outside this package knows which method runs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from lora_jax import quantization, tree
from lora_jax.methods import models, parts
from lora_jax.methods.interception import Interceptor, intercepted, is_deterministic
from lora_jax.methods.models import AnyModel, Model
from lora_jax.tree import Params, Tree


@runtime_checkable
class InitFn(Protocol):
  def __call__(self, key: jax.Array, *args: Any, **kwargs: Any) -> tuple[Tree, Tree]:
    """Splits a model's parameters into (frozen, trainable), adding the method's own to the latter.

    `init(key, model, params, *inputs, **kwargs)`, and of an nnx.Module, which holds its parameters,
    `init(key, module, *inputs, **kwargs)`.

    Args:
      key: random key of the parameters that the method adds.
      *args, **kwargs: the model; its parameters, `variables['params']`, which are passed on, not
        copied; and what it is called with, arrays or `jax.ShapeDtypeStruct`s, of which only the
        shapes are used: nothing is computed.
    """


@runtime_checkable
class MergeFn(Protocol):
  def __call__(self, frozen: Params, trainable: Params, /) -> Tree:
    """Folds the two parts into the model's own parameters.

    Raises:
      ValueError: that says why the method cannot be folded into them, or what of the two parts is
        not of this method (`parts.check`).
    """


@runtime_checkable
class FollowsFn(Protocol):
  def __call__(self, path: str) -> tuple[str, tuple[int | None, ...]] | None:
    """The weight that a leaf of the method is sharded like, or None: `.../query/lora_a` gives
    `('.../query/kernel', (0, None))`, the axis of the kernel that each of its dimensions follows.
    """


@runtime_checkable
class ScalesFn(Protocol):
  def __call__(self, model: Model, *inputs: Any, **kwargs: Any) -> Tree:
    """Leaves that the interceptor prefers to the method's options, if they are joined with the
    parameters. So one program runs members of a sweep that differ in them.
    """


@dataclasses.dataclass(frozen=True)
class Method:
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
      it, and training or an optimizer that is `masked` leaves it. So what a method draws beside the
      base is saved with the run.
    options: its name and options, as `methods.make` takes them; empty if it was made by hand.
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
  options: Mapping[str, object] = dataclasses.field(default_factory=dict, hash=False)

  def __post_init__(self) -> None:
    object.__setattr__(self, 'init', functools.partial(models.init, self.init))
    object.__setattr__(self, 'merge', functools.partial(parts.merge, self.merge, self.follows))
    object.__setattr__(self, 'scales', functools.partial(models.scales, self.scales))

  @property
  def freezes(self) -> bool:
    """Whether the method leaves any of the model's parameters frozen."""
    return '.*' not in self.patterns


def bind(apply: AnyModel, method: Method) -> Callable[..., Any]:
  """The model's `apply` on the two parts: `apply(frozen, trainable, *args, **kwargs)`.

  Besides the model's own arguments the result takes `collections`, a mapping of further variable
  collections (`{'batch_stats': ...}`).

  Dropout that a method adds draws from the `dropout` stream. A deterministic call is not given that
  stream: one with `deterministic=True` or `train=False`, by the model's default if not by argument.
  A model without such an argument has dropout exactly when it is given a key.

  Args:
    apply: a model or its `apply`, or any function with `{'params': ...}` first. The variables of an
      nnx.Module that are not parameters are the collection `state`.
    method: the method whose `init` made the two parts. A call that swaps them, lacks one of them or
      misnames a module in them is an error; with `{}` as the second the model is the base.
  """
  run = models.apply_of(apply)

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
    rngs = kwargs.get('rngs')
    if isinstance(rngs, Mapping) and 'dropout' in rngs and is_deterministic(run, args, kwargs):
      kwargs['rngs'] = {name: key for name, key in rngs.items() if name != 'dropout'}
    with intercepted(method.interceptor, quantization.needed(frozen)):
      return run(variables, *args, **kwargs)

  return bound
