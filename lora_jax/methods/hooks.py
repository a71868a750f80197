"""What a method does in an nnx.Module: each module that it touches runs beside a Linen twin.

It runs as a subclass of its own class, which gives the method's interceptors a *twin*: a bound
Linen module of the same kind, path, options and parameters. So all methods are the same code for
both kinds of models. What a method adds lies beside the module's own parameters, as
`nnx.LoRAParam`, so that `nnx.scan`, `nnx.vmap`, `nnx.remat` and `nnx.jit` slice and carry it as
they do the weight.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
from flax import core, nnx

from lora_jax import tree
from lora_jax.methods import interception, twins
from lora_jax.methods.interception import Args, Context, Interceptor, Kwargs

Shape = tuple[int, ...]
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


def touch(
  module: nnx.Module,
  path: str,
  added: tree.Tree,
  interceptors: tuple[Interceptor, ...],
  found: Found | None,
) -> None:
  """Puts parameters into a module, and interceptors around its calls."""
  parts = tuple(path.split('/')) if path else ()
  kind = twins.kind_of(module)
  hook = Hook(parts, kind, interceptors, tuple(added), found)
  calls = kind.calls if kind else twins.CALLS
  module.__class__ = _hooked(type(module), calls, not jax.tree_util.all_leaves((module,)))
  setattr(module, HOOK, hook)
  if not hasattr(module, EVALUATES):
    setattr(module, EVALUATES, False)
  for name, value in added.items():
    setattr(module, name, nnx.data(jax.tree.map(nnx.LoRAParam, value)))


@functools.cache  # A class for each kind, which JAX's caches compare.
def _hooked(kind: type[nnx.Module], calls: twins.Names, is_pytree: bool) -> type[nnx.Module]:
  """A class of modules of this kind that run their calls inside the interceptors they carry."""

  def around(name: str, method: Callable[..., object]) -> Callable[..., object]:
    def call(self: nnx.Module, *args: object, **kwargs: object) -> object:
      return _run(self, name, functools.partial(method, self), args, kwargs)

    return functools.wraps(method)(call)

  members: dict[str, object] = {
    name: around(linen, method)
    for name, linen in calls
    if callable(method := getattr(kind, name, None))
  }
  members |= {'__module__': kind.__module__, '__qualname__': kind.__qualname__}
  return type(kind)(kind.__name__, (kind,), members, pytree=is_pytree)


def _run(
  module: nnx.Module, name: str, method: Callable[..., object], args: Args, kwargs: Kwargs
) -> object:
  """Calls a module's method inside the interceptors, which see the twin."""
  hook, own = hook_of(module), params_of(module)
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
  out = interception.chained(hook.interceptors[::-1], method, context)(*args, **kwargs)
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


def params_of(module: nnx.Module) -> dict[str, jax.Array]:
  """A touched module's own parameters, without those of submodules and of a method, by name."""
  hook = hook_of(module)
  names, others = linen_names(module), (*hook.added, KEY)
  own = {k: x for k, x in vars(module).items() if isinstance(x, nnx.Param) and k not in others}
  return {names.get(k, k): x.get_value() for k, x in own.items()}


def linen_names(module: nnx.Module) -> dict[str, str]:
  """Names in Linen of a module's own parameters, where they differ."""
  kind = hook_of(module).kind if hasattr(module, HOOK) else twins.kind_of(module)
  return dict(kind.names) if kind else {}


def _is_variable(x: object) -> bool:
  return isinstance(x, nnx.Variable)
