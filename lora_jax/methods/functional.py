"""An nnx.Module as methods know a model: `init` and `apply` on a tree of parameters.

Inside, the modules that a method touches run as `hooks.py` says.

A module's path is that of its attributes; a number in it is joined by an underscore, as Linen names
layers: `model.layers[0].attention.query` is `layers_0/attention/query`.
"""

from __future__ import annotations

import collections
import inspect
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding

from lora_jax import errors, quantization, tree
from lora_jax.methods import hooks, interception, twins
from lora_jax.methods.hooks import Shape
from lora_jax.methods.interception import Args

State = Mapping[Any, Any]  # An nnx.State, or a tree of parameters.
OF_LAYERS = ('lora_', 'vera_')  # Beginnings of the names of leaves that lie in a layer itself.
DROPS = ('lora_a', 'vera_d')  # Leaves of methods that have dropout in a layer.
Filter = Callable[[Args, object], bool]  # Of NNX: by the path of a variable.


class Functional:
  """An nnx.Module by `init` and `apply`, as a Linen module.

  The module is only read, and its parameters are not kept: callers bring them.

  Attributes:
    kind: the module's class.
    shapes: those of its parameters, as `params` gives them.
    state: its other variables: statistics, caches, streams of random numbers.
    shared: its modules that hold one parameter together, by the path of each of them.
  """

  def __init__(self, module: nnx.Module):
    self.kind = type(module)
    self._graphdef, own, self.state = nnx.split(module, nnx.Param, ...)
    variables = cast(dict[Args, nnx.Param], dict(nnx.to_flat_state(own)))
    self._names = leaf_names(module, variables)
    self._variables = {path: x.replace(_shape(x.get_value())) for path, x in variables.items()}
    self.shapes = jax.tree.map(_shape, params(module))
    self.shared = _shared(module)

  def to_state(self, params: tree.Params) -> State:
    """A tree of the module's own parameters as its state.

    Raises:
      ValueError: naming all leaves that are missing, unexpected or misshapen.
    """
    leaves = tree.flatten(params)
    shapes = {path: tuple(x.shape) for path, x in tree.flatten(self.shapes).items()}
    if problems := errors.mismatches(shapes, leaves):
      raise ValueError(f'params are not those of this {self.kind.__name__}: {"; ".join(problems)}')
    return nnx.from_flat_state(
      {path: x.replace(leaves[self._names[path]]) for path, x in self._variables.items()}
    )

  def apply(
    self,
    variables: Mapping[str, State],
    *args: object,
    rngs: Mapping[str, jax.Array] | nnx.Rngs | None = None,
    mutable: bool | list[str] = False,
    method: str = '__call__',
    **kwargs: object,
  ) -> object:
    """Calls the module on parameters, as `apply` of a Linen module does.

    Args:
      variables: `params`, and `state` if it is not the module's own.
      *args, **kwargs: the arguments of the call.
      rngs: keys by the name of their stream, for the module's streams and a method's dropout.
      mutable: whether to return the state after the call too: `(output, {'state': ...})`.
      method: the module's method to call.

    Raises:
      ValueError: if a stream is drawn from that has neither a key nor a state of the caller: each
        call would draw the same.
    """
    keys = dict(rngs) if isinstance(rngs, Mapping) else {}
    module = self.bound(variables['params'], variables.get('state'))
    reseed(module, keys)
    if 'state' not in variables:
      _forbid_streams(module, keys)
    function = getattr(module, method)
    if _takes_rngs(function):
      kwargs['rngs'] = nnx.Rngs(**keys) if keys else rngs
    out = function(*args, **kwargs)
    return (out, {'state': nnx.state(module, nnx.Not(nnx.Param))}) if mutable else out

  def init(self, key: jax.Array, *args: object, **kwargs: object) -> dict[str, tree.Tree]:
    """Zeros of the shapes of the parameters, and of what running interceptors put beside them.

    It runs the model on zeros. In `jax.eval_shape` nothing is computed.
    """
    shapes = {path: tuple(x.shape) for path, x in tree.flatten(self.shapes).items()}
    seen: dict[str, Shape] = {}  # Shapes of parameters as the calls see them, without a stack.
    put: dict[str, tuple[str, Shape]] = {}

    def found(module: nnx.Module, path: str, new: Mapping[str, Shape]) -> None:
      seen.update({_join(path, name): x.shape for name, x in hooks.params_of(module).items()})
      put.update({_join(path, name): (path, shape) for name, shape in new.items()})

    zeros = jax.tree.map(_zeros, self.shapes)
    module = self.bound(zeros, jax.tree.map(_zeros, self.state), found)
    if _takes_rngs(module) and not isinstance(kwargs.get('rngs'), nnx.Rngs):
      kwargs['rngs'] = nnx.Rngs(key)
    module(*args, **kwargs)
    added = {
      name: jnp.zeros((*_stack(path, shapes, seen), *shape)) for name, (path, shape) in put.items()
    }
    return {'params': tree.join(zeros, tree.unflatten(added))}

  def bound(
    self, params: tree.Params, state: State | None = None, found: hooks.Found | None = None
  ) -> nnx.Module:
    """The module on parameters, with the interceptors that run now around what they touch.

    They touch each module in which `params` hold more than its own parameters, or a quantized
    kernel, and embeddings (a prefix's ids are beyond their vocabulary); every module while `found`
    records what they put.

    Raises:
      ValueError: if there are such parameters, but no interceptor, or no module for them.
    """
    leaves = tree.flatten(params)
    own = {name: leaves.pop(name) for name in self._names.values() if name in leaves}
    state = self.state if state is None else state
    module = nnx.merge(self._graphdef, self.to_state(tree.unflatten(own)), state, copy=True)
    running = interception.running()
    if leaves and not running:
      raise ValueError(
        f'{errors.listed(list(leaves))}: not parameters of this {self.kind.__name__}, and no '
        'method that uses them. Call the model by `bind(model, method)`.'
      )
    is_linen = lambda sub: isinstance(sub, nnx.bridge.ToNNX)  # Nothing is seen inside of it.
    subs = {_name(path): sub for path, sub in nnx.iter_modules(module) if not is_linen(sub)}
    is_embedding = lambda x: isinstance(twins.make_twin(twins.kind_of(x), x), nn.Embed)
    coded = {path.rpartition('/')[0] for path in quantization.kernels(params)}
    added: dict[str, dict[str, jax.Array]] = {
      path: {}
      for path, sub in subs.items()
      if found or (running and (path in coded or is_embedding(sub)))
    }
    lost = []
    for leaf, value in leaves.items():  # Each goes to the innermost module that it lies in.
      parts = leaf.split('/')
      heads = ('/'.join(parts[:n]) for n in reversed(range(len(parts))))
      path = next((head for head in heads if head in subs), '')
      rest = leaf.removeprefix(f'{path}/')
      added.setdefault(path, {})[rest] = value
      lost += [leaf] * ('/' in rest and parts[-1].startswith(OF_LAYERS))
    if lost:
      raise ValueError(
        f'{errors.listed(lost)}: this {self.kind.__name__} has no such modules. Pass what '
        'method.init returned for this model, with its names.'
      )
    for path, new in added.items():
      hooks.touch(subs[path], path, tree.unflatten(new), running, found)
    return module


def params(model: nnx.Module, wrt: Filter | type[nnx.Variable] = nnx.Param) -> tree.Tree:
  """The parameters of an nnx.Module as a tree.

  Args:
    model: the module.
    wrt: a filter of NNX, that of `adapt` for the trainable parameters of an adapted model.
  """
  state = nnx.to_flat_state(nnx.state(model, wrt))
  names = leaf_names(model, state.paths)
  return tree.unflatten({names[path]: x.get_value() for path, x in state if path[-1] != hooks.KEY})


def leaf_names(module: nnx.Module, paths: Iterable[Args]) -> dict[Args, str]:
  """The paths in trees of parameters of a module's variables, by their paths in the module.

  Raises:
    ValueError: if two variables have the same path there.
  """
  renamed = {path: hooks.linen_names(sub) for path, sub in nnx.iter_modules(module)}
  names: dict[Args, str] = {}
  for path in paths:
    leaf = renamed.get(path[:-1], {}).get(str(path[-1]), path[-1])
    names[path] = _name((*path[:-1], leaf))
  if twice := [x for x, count in collections.Counter(names.values()).items() if count > 1]:
    raise ValueError(f'two parameters have one path: {errors.listed(twice)}. Rename one of them.')
  return names


def reseed(module: nnx.Module, keys: Mapping[str, jax.Array]) -> None:
  """Gives a module's streams new keys, and a method's dropout in it the key `dropout`.

  Args:
    module: the module, which is changed.
    keys: by the name of the stream. The stream `default` takes the first, if it has none.
  """
  if not keys:
    return
  own = {name: jax.random.fold_in(key, 1) for name, key in keys.items()}
  own.setdefault('default', next(iter(own.values())))
  for name, key in own.items():
    nnx.reseed(module, policy='match_shape', graph=None, **{name: key})
  if 'dropout' not in keys:
    return
  for _, sub in nnx.iter_modules(module):
    hook = hooks.hook_of(sub)
    if any(name in hook.added for name in DROPS):
      weight = max((x.shape for x in hooks.params_of(sub).values()), key=len)
      stack = weight[: len(weight) - twins.weight_axes(twins.make_twin(hook.kind, sub))]
      key = jax.random.fold_in(keys['dropout'], zlib.crc32('/'.join(hook.path).encode()))
      # As a parameter it is stacked as the factors are, whatever the model does with them.
      setattr(sub, hooks.KEY, nnx.Param(jax.random.key_data(jax.random.split(key, stack))))


def _shared(module: nnx.Module) -> dict[str, list[str]]:
  """The modules that hold one parameter together, by the path of each of them."""
  owners: dict[int, list[str]] = {}
  for path, sub in nnx.iter_modules(module):
    for variable in vars(sub).values():
      if isinstance(variable, nnx.Param):
        owners.setdefault(id(variable), []).append(_name(path))
  return {name: names for names in owners.values() if len(names) > 1 for name in names}


def _takes_rngs(function: Callable[..., object]) -> bool:
  """Whether a model takes its random numbers in the call, as some do."""
  return 'rngs' in inspect.signature(function).parameters


class _Unseeded(nnx.RngStream):
  """A stream whose numbers would be the same at each call."""

  def __call__(self) -> jax.Array:
    raise ValueError(
      f'the model draws random numbers from its stream {self.tag!r}, which would be the same at '
      f'each call. Pass rngs={{{self.tag!r}: key}} with a new key for each, or the state that the '
      "last call returned (collections={'state': state}, mutable=True); or set the model to "
      'evaluation: `model.eval()`.'
    )


def _forbid_streams(module: nnx.Module, keys: Mapping[str, jax.Array]) -> None:
  """Makes every stream without a key raise when it is drawn from."""
  seeded = {*keys, 'default'} if keys else set()
  for _, node in nnx.iter_graph(module):
    if isinstance(node, nnx.RngStream) and node.tag not in seeded:
      node.__class__ = _Unseeded


def _stack(path: str, shapes: Mapping[str, Shape], seen: Mapping[str, Shape]) -> Shape:
  """The axes that stacked layers add in front of parameters of a module.

  They are those of its own parameters; a module without any lies in the stack of its neighbors.

  Args:
    path: the module's.
    shapes: of all parameters by path, as the model holds them.
    seen: of those that were called, as the calls saw them.

  Raises:
    ValueError: if layers are stacked on another axis than 0.
  """
  near = [leaf for leaf in seen if leaf.startswith(_join(path, ''))]
  if path and not near:
    return _stack(path.rpartition('/')[0], shapes, seen)
  stacks = [shapes[leaf][: len(shapes[leaf]) - len(seen[leaf])] for leaf in near]
  for leaf, stack in zip(near, stacks):
    if (*stack, *seen[leaf]) != shapes[leaf]:
      raise ValueError(
        f'{leaf!r} is {shapes[leaf]} in the model and {seen[leaf]} in its call: layers must be '
        'stacked on axis 0'
      )
  return min(stacks, key=len, default=())


def _shape(x: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, 'sharding', None))


def _zeros(x: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
  if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
    return jnp.broadcast_to(jax.random.key(0), x.shape)
  where = getattr(x, 'sharding', None)
  return jnp.zeros(x.shape, x.dtype, device=where if isinstance(where, NamedSharding) else None)


def _name(path: Args) -> str:
  """`layers_0/query` of ('layers', 0, 'query')."""
  name = ''
  for part in path:
    name += f'_{part}' if isinstance(part, int) else f'/{part}'
  return name.removeprefix('/')


def _join(path: str, name: str) -> str:
  return f'{path}/{name}' if path else name
