"""How a method enters the forward pass: interceptors around the methods of each module."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from lora_jax import quantization

# An interceptor runs in place of each method of each module: `next_fun(*args, **kwargs)` calls the
# method, `context` names it and its module. See `flax.linen.intercept_methods`.
Next, Args, Kwargs = Callable[..., Any], tuple[Any, ...], dict[str, Any]
Context = nn.module.InterceptorContext
Interceptor = Callable[[Next, Args, Kwargs, Context], Any]

# The interceptors that run now: a part of the key by which JAX keeps the programs that it traced.
_interceptors = jax.make_user_context(())


def is_intercepted(kind: type) -> bool:
  """Whether an interceptor of this type runs now."""
  return any(isinstance(interceptor, kind) for interceptor in _interceptors.value)


@contextlib.contextmanager
def intercepted(*interceptors: Interceptor | None) -> Iterator[None]:
  """Runs interceptors in place of each method inside the block, beside those around it.

  Flax alone does not tell JAX: a method that is wrapped in `flax.linen.jit` would run the program
  that was traced for it before, without an interceptor or with another.
  """
  given = [interceptor for interceptor in interceptors if interceptor is not None]
  if quantization.interceptor in _interceptors.value:
    given.append(quantization.interceptor)  # Again: it has to be the innermost.
  with contextlib.ExitStack() as stack:
    for interceptor in given:
      stack.enter_context(nn.intercept_methods(interceptor))
    stack.enter_context(_interceptors((*_interceptors.value, *given)))
    yield


def running() -> tuple[Interceptor, ...]:
  """The interceptors that run now, the innermost last, as in Flax."""
  return _interceptors.value


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
