"""An nnx.Module as methods know a model: `init` and `apply` on a tree of parameters.

Inside, a module that a method touches runs as a subclass of its own class, which gives the method's
interceptors a *twin*: a bound Linen module of the same kind, path, options and parameters. So all
methods are the same code for both kinds of models. What a method adds lies beside the module's own
parameters, as `nnx.LoRAParam`, so that `nnx.scan`, `nnx.vmap`, `nnx.remat` and `nnx.jit` slice and
carry it as they do the weight.

A module's path is that of its attributes; a number in it is joined by an underscore, as Linen names
layers: `model.layers[0].attention.query` is `layers_0/attention/query`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import core, nnx
from jax.sharding import NamedSharding

from lora_jax import errors, tree
from lora_jax.methods import interception, twins
from lora_jax.methods.interception import Args, Context, Interceptor, Kwargs

Shape = tuple[int, ...]
State = Mapping[Any, Any]  # An nnx.State, or a tree of parameters.
Filter = Callable[[Args, object], bool]  # Of NNX: by the path of a variable.
Found = Callable[[nnx.Module, str, Mapping[str, Shape]], None]
HOOK, KEY = 'lora_jax', 'lora_jax_key'  # Attributes of a touched module: its `Hook`, a key.
EVALUATES = 'deterministic'  # The attribute that `model.eval()` and `model.train()` set.


@dataclasses.dataclass(frozen=True)
class Hook:
  """What a touched module carries: static, and so a part of the key of every `jit` around it.

  Attributes:
    path: the module's.
    kind: what is known of its class, see `twins.kind_of`.
    interceptors: those that run around its calls.
    added: names of the parameters beside its own.
    found: takes what interceptors put into it, if that is being recorded.
  """

  path: tuple[str, ...]
  kind: twins.Kind | None
  interceptors: tuple[Interceptor, ...]
  added: tuple[str, ...] = ()
  found: Found | None = None


def hook_of(module: nnx.Module) -> Hook:
  """What a module carries; an empty one if it is not touched."""
  return getattr(module, HOOK, Hook((), None, ()))


class Functional:
  """An nnx.Module by `init` and `apply`, as a Linen module.

  The module is only read, and its parameters are not kept: callers bring them.

  Attributes:
    kind: the module's class.
    shapes: those of its parameters, as `params` gives them.
    state: its other variables: statistics, caches, streams of random numbers.
  """

  def __init__(self, module: nnx.Module):
    self.kind = type(module)
    self._graphdef, own, self.state = nnx.split(module, nnx.Param, ...)
    variables = cast(dict[Args, nnx.Param], dict(nnx.to_flat_state(own)))
    self._names = leaf_names(module, variables)
    self._variables = {path: x.replace(_shape(x.get_value())) for path, x in variables.items()}
    self.shapes = jax.tree.map(_shape, params(module))

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
      seen.update({_join(path, name): x.shape for name, x in _params(module).items()})
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
    self, params: tree.Params, state: State | None = None, found: Found | None = None
  ) -> nnx.Module:
    """The module on parameters, with the interceptors that run now around what they touch.

    They touch each module in which `params` hold more than its own parameters, and embeddings (a
    prefix's ids are beyond their vocabulary); every module while `found` records what they put.

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
    everywhere = [path for path, sub in subs.items() if found or (running and is_embedding(sub))]
    added: dict[str, dict[str, jax.Array]] = {path: {} for path in everywhere}
    for leaf, value in leaves.items():  # Each goes to the innermost module that it lies in.
      parts = leaf.split('/')
      heads = ('/'.join(parts[:n]) for n in reversed(range(len(parts))))
      path = next((head for head in heads if head in subs), '')
      added.setdefault(path, {})[leaf.removeprefix(f'{path}/')] = value
    if lost := [leaf for leaf in added.get('', {}) if '/' in leaf]:
      raise ValueError(f'{errors.listed(lost)}: this {self.kind.__name__} has no such modules')
    for path, new in added.items():
      _touch(subs[path], path, tree.unflatten(new), running, found)
    return module


def params(model: nnx.Module, wrt: Filter | type[nnx.Variable] = nnx.Param) -> tree.Tree:
  """The parameters of an nnx.Module as a tree.

  Args:
    model: the module.
    wrt: a filter of NNX, that of `adapt` for the trainable parameters of an adapted model.
  """
  state = nnx.to_flat_state(nnx.state(model, wrt))
  names = leaf_names(model, state.paths)
  return tree.unflatten({names[path]: x.get_value() for path, x in state if path[-1] != KEY})


def leaf_names(module: nnx.Module, paths: Iterable[Args]) -> dict[Args, str]:
  """The paths in trees of parameters of a module's variables, by their paths in the module.

  Raises:
    ValueError: if two variables have the same path there.
  """
  renamed = {path: _linen_names(sub) for path, sub in nnx.iter_modules(module)}
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
    hook = hook_of(sub)
    if 'lora_a' in hook.added:
      weight = max((x.shape for x in _params(sub).values()), key=len)
      stack = weight[: len(weight) - twins.weight_axes(twins.make_twin(hook.kind, sub))]
      key = jax.random.fold_in(keys['dropout'], zlib.crc32('/'.join(hook.path).encode()))
      # As a parameter it is stacked as the factors are, whatever the model does with them.
      setattr(sub, KEY, nnx.Param(jax.random.key_data(jax.random.split(key, stack))))


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


def _touch(
  module: nnx.Module,
  path: str,
  added: tree.Tree,
  interceptors: tuple[Interceptor, ...],
  found: Found | None,
) -> None:
  """Puts parameters into a module, and interceptors around its calls."""
  parts = tuple(path.split('/')) if path else ()
  hook = Hook(parts, twins.kind_of(module), interceptors, tuple(added), found)
  module.__class__ = _hooked(type(module), not jax.tree_util.all_leaves((module,)))
  setattr(module, HOOK, hook)
  if not hasattr(module, EVALUATES):
    setattr(module, EVALUATES, False)
  for name, value in added.items():
    setattr(module, name, nnx.data(jax.tree.map(nnx.LoRAParam, value)))


@functools.cache  # A class for each kind, which JAX's caches compare.
def _hooked(kind: type[nnx.Module], is_pytree: bool) -> type[nnx.Module]:
  """A class of modules of this kind that run their calls inside the interceptors they carry."""

  def around(name: str, method: Callable[..., object]) -> Callable[..., object]:
    def call(self: nnx.Module, *args: object, **kwargs: object) -> object:
      return _run(self, name, functools.partial(method, self), args, kwargs)

    return functools.wraps(method)(call)

  calls = {name: method for name in twins.CALLS if callable(method := getattr(kind, name, None))}
  members = {name: around(name, method) for name, method in calls.items()}
  members |= {'__module__': kind.__module__, '__qualname__': kind.__qualname__}
  return type(kind)(kind.__name__, (kind,), members, pytree=is_pytree)


def _run(
  module: nnx.Module, name: str, method: Callable[..., object], args: Args, kwargs: Kwargs
) -> object:
  """Calls a module's method inside the interceptors, which see the twin."""
  hook, own = hook_of(module), _params(module)
  for k in hook.added:
    own[k] = jax.tree.map(lambda x: x.get_value(), getattr(module, k), is_leaf=_is_variable)
  key = None if getattr(module, EVALUATES) else getattr(module, KEY, None)
  rngs = {} if key is None else {'dropout': jax.random.wrap_key_data(key.get_value())}
  twin = twins.make_twin(hook.kind, module)
  scope = core.Scope({'params': own}, rngs, mutable=hook.found is not None, path=hook.path)
  before, twin = set(tree.paths(own)), twin.clone(parent=scope)
  if hook.kind:
    method, args, kwargs = _as_linen_call(twin, name, method, args, kwargs)
  context = Context(twin, name, method)
  out = interception.chained(hook.interceptors, method, context)(*args, **kwargs)
  if hook.found:
    after = tree.flatten(twin.variables['params'])
    hook.found(
      module, '/'.join(hook.path), {k: x.shape for k, x in after.items() if k not in before}
    )
  return out


def _as_linen_call(
  twin: nn.Module, name: str, method: Callable[..., object], args: Args, kwargs: Kwargs
) -> tuple[Callable[..., object], Args, Kwargs]:
  """A call with the arguments that the twin knows by position; `method` has the others by itself.

  NNX's layers take `out_sharding` as well, which is that of the output.
  """
  call = inspect.signature(method).bind(*args, **kwargs)
  known = len(inspect.signature(getattr(twin, name)).parameters)
  others = call.args[known:]
  return lambda *args, **kwargs: method(*args, *others, **kwargs), call.args[:known], call.kwargs


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


def _params(module: nnx.Module) -> dict[str, jax.Array]:
  """A touched module's own parameters, without those of submodules and of a method, by name."""
  hook = hook_of(module)
  names, others = _linen_names(module), (*hook.added, KEY)
  own = {k: x for k, x in vars(module).items() if isinstance(x, nnx.Param) and k not in others}
  return {names.get(k, k): x.get_value() for k, x in own.items()}


def _linen_names(module: nnx.Module) -> dict[str, str]:
  """Names in Linen of a module's own parameters, where they differ."""
  kind = hook_of(module).kind if hasattr(module, HOOK) else twins.kind_of(module)
  return dict(kind.names) if kind else {}


def _shape(x: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, 'sharding', None))


def _zeros(x: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
  if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
    return jnp.broadcast_to(jax.random.key(0), x.shape)
  where = getattr(x, 'sharding', None)
  return jnp.zeros(x.shape, x.dtype, device=where if isinstance(where, NamedSharding) else None)


def _is_variable(x: object) -> bool:
  return isinstance(x, nnx.Variable)


def _name(path: Args) -> str:
  """`layers_0/query` of ('layers', 0, 'query')."""
  name = ''
  for part in path:
    name += f'_{part}' if isinstance(part, int) else f'/{part}'
  return name.removeprefix('/')


def _join(path: str, name: str) -> str:
  return f'{path}/{name}' if path else name
