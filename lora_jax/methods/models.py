"""Models of Linen and of NNX, as methods take them: by `init` and `apply` on parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import jax

from lora_jax import errors, quantization, tree

if TYPE_CHECKING:
  from flax import nnx


HINT = (
  'Of an nnx.Module those modules are known that are called: a weight that is used bare '
  '(`layer.kernel[...]`) has no call to adapt. A class of layers of your own, or one with a '
  '`__call__` of its own, is made known by `lora_jax.nnx.register`. Of an nnx.bridge.ToNNX give '
  'the Linen model, and hand it over by `lora_jax.to_nnx`.'
)


@runtime_checkable
class Model(Protocol):
  """A model as methods see it: a module of Linen, or one of NNX by the same two functions."""

  def init(self, *args: Any, **kwargs: Any) -> Mapping[str, tree.Params]: ...

  def apply(self, *args: Any, **kwargs: Any) -> object: ...


AnyModel = Model | Callable[..., object]  # An nnx.Module is called; an `apply` is a function.


def is_nnx(model: object) -> bool:
  """Whether a model is an nnx.Module. flax.nnx is not loaded to answer it."""
  loaded = sys.modules.get('flax.nnx')
  return loaded is not None and isinstance(model, loaded.Module)


def as_linen(model: object) -> Model:
  """An nnx.Module by `init` and `apply`; any other model as it is."""
  if not is_nnx(model):
    return cast(Model, model)
  from lora_jax.methods.functional import Functional  # Loads flax.nnx, which takes 0.1 seconds.

  return Functional(cast('nnx.Module', model))


def apply_of(model: AnyModel) -> Callable[..., object]:
  """The function that calls a model on its parameters; any other function as it is."""
  if is_nnx(model):
    model = as_linen(model)
  return model.apply if isinstance(model, Model) else model


def params_of(model: object) -> tree.Tree | None:
  """The parameters that a model holds, if it is an nnx.Module."""
  if not is_nnx(model):
    return None
  from lora_jax.methods import functional

  return functional.params(cast('nnx.Module', model))


def scales(
  scales_of: Callable[..., tree.Tree], model: object, *inputs: object, **kwargs: object
) -> tree.Tree:
  """`Method.scales` of any model, given that of Linen models."""
  return scales_of(as_linen(model), *inputs, **kwargs)


def init(
  split: Callable[..., tuple[tree.Tree, tree.Tree]],
  key: jax.Array,
  model: object,
  *rest: object,
  **kwargs: object,
) -> tuple[tree.Tree, tree.Tree]:
  """`Method.init` of any model, given that of Linen models; an nnx.Module holds its parameters.

  Raises:
    ValueError: as the method's own; naming the quantized kernels that it would train.
  """
  frozen, trainable = _split(split, key, model, *rest, **kwargs)
  if coded := quantization.kernels(trainable):
    raise ValueError(
      f'the method trains {errors.listed(list(coded), limit=4)}, but the codes of a quantized '
      'kernel have no gradient. Train factors beside them (lora), or leave the base as it is '
      '(model.quantize=none).'
    )
  return frozen, trainable


def _split(
  split: Callable[..., tuple[tree.Tree, tree.Tree]],
  key: jax.Array,
  model: object,
  *rest: object,
  **kwargs: object,
) -> tuple[tree.Tree, tree.Tree]:
  if not is_nnx(model):
    if rest and isinstance(rest[0], Mapping):
      _check_names(rest[0])
    return split(key, model, *rest, **kwargs)
  params = params_of(model) or {}
  if rest and isinstance(rest[0], Mapping) and tree.paths(rest[0]) == tree.paths(params):
    raise ValueError('an nnx.Module holds its parameters: method.init(key, model, *inputs)')
  try:
    return split(key, as_linen(model), params, *rest, **kwargs)
  except ValueError as error:
    if ' matches ' not in str(error):
      raise
    raise ValueError(f'{error}\n{HINT}') from error


def _check_names(params: tree.Params) -> None:
  """Raises a ValueError for a parameter whose name no path can hold, as those of nn.WeightNorm."""
  for name, value in params.items():
    if '/' in str(name):
      raise ValueError(
        f'a parameter is named {name!r}, but paths here are joined by "/". nn.WeightNorm names its '
        'scales so: fold them into the kernels, and adapt the model without it.'
      )
    if isinstance(value, Mapping):
      _check_names(value)
