"""How a method enters the forward pass: interceptors around the methods of each module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import flax.linen as nn
import jax

# An interceptor runs in place of each method of each module: `next_fun(*args, **kwargs)` calls the
# method, `context` names it and its module. See `flax.linen.intercept_methods`.
Next, Args, Kwargs = Callable[..., Any], tuple[Any, ...], dict[str, Any]
Context = nn.module.InterceptorContext
Interceptor = Callable[[Next, Args, Kwargs, Context], Any]
Carried = TypeVar('Carried')

# The interceptors that run now, and what they hand to each other: a part of the key by which JAX
# keeps the programs that it traced.
_interceptors = jax.make_user_context(())


@contextlib.contextmanager
def carrying(value: object) -> Iterator[None]:
  """Hands a value to the interceptors inside the block; it is hashable, as a part of JAX's key."""
  with _interceptors((*_interceptors.value, value)):
    yield


def carried(kind: type[Carried]) -> Carried | None:
  """The value of this type that a block around hands on; None for none."""
  return next((value for value in _interceptors.value if isinstance(value, kind)), None)


@contextlib.contextmanager
def intercepted(interceptor: Interceptor | None) -> Iterator[None]:
  """Runs an interceptor in place of each method inside the block, beside those around it.

  Flax alone does not tell JAX: a method that is wrapped in `flax.linen.jit` would run the program
  that was traced for it before, without an interceptor or with another.
  """
  if interceptor is None:
    yield
    return
  with nn.intercept_methods(interceptor), _interceptors((*_interceptors.value, interceptor)):
    yield
