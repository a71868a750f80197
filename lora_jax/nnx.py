"""Models of Flax NNX: methods on an nnx.Module, in the module itself, and Linen models as NNX.

    frozen, trainable = method.init(key, model, x)      # An nnx.Module holds its own parameters.
    apply = lora_jax.bind(model, method)                # apply(frozen, trainable, x) is pure.
    lora_jax.update(model, method.merge(frozen, trainable))

or, with the method in a module that is trained as NNX trains one,

    adapted, trained = lora_jax.adapt(model, method, frozen, trainable)
    optimizer = nnx.Optimizer(adapted, optax.adam(1e-3), wrt=trained)
    grads = nnx.grad(loss, argnums=nnx.DiffState(0, trained))(adapted)
    trainable = lora_jax.params(adapted, trained)

`methods/functional.py` says how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
from flax import nnx

from lora_jax import quantization, tree
from lora_jax.methods import Method, functional, parts, twins
from lora_jax.methods.functional import Filter, Functional
from lora_jax.methods.functional import params as params
from lora_jax.methods.interception import Interceptor, intercepted, is_deterministic


def register(
  kind: type[nnx.Module],
  twin: Callable[[nnx.Module], nn.Module],
  names: Mapping[str, str] | None = None,
  calls: Mapping[str, str] | None = None,
) -> None:
  """Makes a kind of layer known, so that methods can adapt layers of this class.

      class Scaled(nnx.Module):  # Its weight is `w`, [d, k].
        ...
      lora_jax.nnx.register(Scaled, lambda layer: nn.Dense(layer.size), {'w': 'kernel'})

  Args:
    kind: the class. Subclasses that have a `__call__` of their own are kinds of their own.
    twin: the Linen layer that computes the same product, given the module: an `nn.Dense`,
      `nn.DenseGeneral`, `nn.Einsum`, `nn.Conv` or `nn.Embed`, without parameters.
    names: names of the layer's parameters in the Linen layer, where they differ.
    calls: its methods that use the weight, by the Linen layer's: the default is `__call__` and
      `attend`. An embedding that is looked up by `encode` has {'encode': '__call__'}.

  Raises:
    ValueError: if `kind` is not a class of modules.
  """
  if not (isinstance(kind, type) and issubclass(kind, nnx.Module)):
    raise ValueError(f'register: expected a class of nnx.Module, but this is {kind!r}')
  given = tuple(calls.items()) if calls else twins.CALLS
  twins.KINDS[kind] = twins.Kind(twin, tuple((names or {}).items()), given)


def adapt(
  model: nnx.Module | nn.Module,
  method: Method,
  frozen: tree.Params,
  trainable: tree.Params,
  rngs: Mapping[str, jax.Array] | None = None,
) -> tuple[nnx.Module, Filter]:
  """A new nnx.Module with a method in it, and the filter of the variables that it trains.

  The filter is for `nnx.Optimizer(adapted, tx, wrt=trained)`, `nnx.DiffState(0, trained)` and
  `nnx.state(adapted, trained)`. Call the module as you call the model; `params(adapted, trained)`
  gives the trainable parameters back as a tree, which `method.merge` takes.

  Args:
    model: an nnx.Module, or a Linen model, which becomes one (see `to_nnx`). It does not change.
    method: the method.
    frozen, trainable: what `method.init` returned.
    rngs: a key by the name of its stream: `{'dropout': key}` turns the method's dropout on. Give
      new keys to each step by `reseed(adapted, {'dropout': key})`.

  Raises:
    TypeError, ValueError: as the function that `bind` returns, if these are not the two parts.
    ValueError: for a method that computes all parameters anew in each call.
  """
  parts.check(method.follows, frozen, trainable, 'adapt')
  names = set(tree.paths(trainable))
  params = tree.join(frozen, trainable)
  if isinstance(model, nnx.Module):
    with intercepted(*_interceptors(method, params)):
      module = Functional(model).bound(params)
  else:
    module = to_nnx(model, params, method, nnx.Rngs(**rngs) if rngs else None)
  functional.reseed(module, rngs or {})
  paths = nnx.to_flat_state(nnx.state(module, nnx.Param)).paths
  by_path = functional.leaf_names(module, paths)
  return module, lambda path, variable: by_path.get(tuple(path)) in names


def update(model: nnx.Module, params: tree.Params) -> None:
  """Writes a tree of parameters, as `method.merge` returns one, into an nnx.Module.

  Raises:
    ValueError: naming all parameters that are missing, misshapen or unexpected, as are those of a
      method that was not merged.
  """
  nnx.update(model, Functional(model).to_state(params))


def reseed(adapted: nnx.Module, rngs: Mapping[str, jax.Array]) -> None:
  """Gives the streams of an adapted module new keys, and `dropout` to the method's dropout.

  Args:
    adapted: the module that `adapt` returned; call this inside the train step.
    rngs: keys by the name of their stream.
  """
  functional.reseed(adapted, rngs)


class Adapted(nnx.bridge.ToNNX):
  """A Linen model with a method in it, as an nnx.Module."""

  def __init__(
    self, model: nn.Module, interceptors: tuple[Interceptor | None, ...], rngs: nnx.Rngs | None
  ):
    super().__init__(model, rngs)
    self.to_nnx__interceptors = interceptors

  def __call__(
    self,
    *args: object,
    rngs: nnx.Rngs | jax.Array | None = None,
    method: Callable[..., object] | str | None = None,
    mutable: bool | list[str] | None = None,
    **kwargs: object,
  ) -> object:
    rngs = self.to_nnx__rngs if rngs is None else rngs
    call = kwargs if method is None else kwargs | {'method': method}
    if isinstance(rngs, nnx.Rngs) and is_deterministic(self.to_nnx__module.apply, args, call):
      rngs = nnx.Rngs(**{name: stream() for name, stream in rngs.items() if name != 'dropout'})
    with intercepted(*self.to_nnx__interceptors):
      return super().__call__(*args, rngs=rngs, method=method, mutable=mutable, **kwargs)


def to_nnx(
  model: nn.Module, params: tree.Params, method: Method, rngs: nnx.Rngs | None = None
) -> nnx.Module:
  """A Linen model, one of this package's for instance, as an nnx.Module with a method in it.

  `nnx.bridge.ToNNX` alone would ignore what a method adds, without an error.

  Args:
    model: the model.
    params: its parameters with those of the method, `lora_jax.join(frozen, trainable)`.
    method: the method.
    rngs: streams that the model's dropout draws from.
  """
  module = Adapted(model, _interceptors(method, params), rngs)
  leaves = {path: nnx.Param(x) for path, x in tree.flatten(nn.unbox(params)).items()}
  for name, value in tree.unflatten(leaves).items():
    setattr(module, name, nnx.data(value))
  return module


def _interceptors(method: Method, params: tree.Params) -> tuple[Interceptor | None, ...]:
  """Those of a method in a module."""
  if method.runs_merged:
    raise ValueError(
      f'{method.program[0]} computes all parameters anew in each call, so it cannot lie in a '
      'module. Train it by bind(model, method).'
    )
  return method.interceptor, quantization.needed(params)
