"""Methods that know their name and options, so that they can be written down and made again."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

from lora_jax.methods.base import Method

P = ParamSpec('P')


def recorded(make: Callable[P, Method]) -> Callable[P, Method]:
  """A function that makes a method, with `Method.options` filled in: its name and all its options.

  Defaults are among them: a file keeps its meaning if a default changes.
  """

  @functools.wraps(make)
  def recording(*args: P.args, **kwargs: P.kwargs) -> Method:
    given = inspect.signature(make).bind(*args, **kwargs)
    given.apply_defaults()
    return dataclasses.replace(
      make(*args, **kwargs), options={'name': make.__name__, **given.kwargs}
    )

  return recording
