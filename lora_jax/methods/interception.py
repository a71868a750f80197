"""How a method enters the forward pass: interceptors around the methods of each module."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax

# An interceptor runs in place of each method of each module: `next_fun(*args, **kwargs)` calls the
# method, `context` names it and its module. See `flax.linen.intercept_methods`.
Next, Args, Kwargs = Callable[..., Any], tuple[Any, ...], dict[str, Any]
Context = nn.module.InterceptorContext
Interceptor = Callable[[Next, Args, Kwargs, Context], Any]
Carried = TypeVar('Carried')

# The interceptors that run now, and what they hand to those of modules inside: parts of the key by
# which JAX keeps the programs that it traced.
_interceptors, _carried = jax.make_user_context(()), jax.make_user_context(())


@contextlib.contextmanager
def carrying(value: object) -> Iterator[None]:
  """Hands a value to the interceptors inside the block; it is hashable, as a part of JAX's key."""
  with _carried((*_carried.value, value)):
    yield


def carried(kind: type[Carried]) -> Carried | None:
  """The value of this type that a block around hands on; None for none."""
  return next((value for value in _carried.value if isinstance(value, kind)), None)


@contextlib.contextmanager
def intercepted(*interceptors: Interceptor | None) -> Iterator[None]:
  """Runs interceptors in place of each method inside the block, beside those around it.

  Flax alone does not tell JAX: a method that is wrapped in `flax.linen.jit` would run the program
  that was traced for it before, without an interceptor or with another.
  """
  given = [interceptor for interceptor in interceptors if interceptor is not None]
  with contextlib.ExitStack() as stack:
    for interceptor in given:
      stack.enter_context(nn.intercept_methods(interceptor))
    stack.enter_context(_interceptors((*_interceptors.value, *given)))
    yield


def running() -> tuple[Interceptor, ...]:
  """The interceptors that run now, the innermost last, as in Flax."""
  return tuple(filter(callable, _interceptors.value))


def chained(interceptors: Sequence[Interceptor], next_fun: Next, context: Context) -> Next:
  """A method inside interceptors, the first of which is the innermost."""
  for interceptor in interceptors:
    next_fun = functools.partial(_call, interceptor, next_fun, context)
  return next_fun


def _call(inner: Interceptor, next_fun: Next, context: Context, *args: Any, **kwargs: Any) -> Any:
  return inner(next_fun, args, kwargs, context)


def is_deterministic(
  apply: Callable[..., object], args: Args, kwargs: Mapping[str, object]
) -> bool:
  """Whether a call asks for no dropout, by an argument or by the model's default for it."""
  arguments = dict(kwargs)
  owner = getattr(apply, '__self__', None)
  kind = type(owner) if isinstance(owner, nn.Module) else getattr(owner, 'kind', None)
  if isinstance(kind, type):
    name = kwargs.get('method') or '__call__'
    function = getattr(kind, str(name)) if not callable(name) else name
    parameters = list(inspect.signature(function).parameters.values())
    positional = dict(zip([parameter.name for parameter in parameters[1:]], args))
    arguments = {parameter.name: parameter.default for parameter in parameters}
    arguments |= positional | dict(kwargs)
  if isinstance(arguments.get('deterministic'), bool):
    return arguments['deterministic']
  return any(arguments.get(name) is False for name in ('train', 'training', 'is_training'))
