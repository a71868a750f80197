"""Ways to adapt a model, each a `Method`; `METHODS` by name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from lora_jax.methods.base import Method as Method
from lora_jax.methods.base import bind as bind
from lora_jax.methods.full import full as full
from lora_jax.methods.lora import lora as lora
from lora_jax.methods.summary import Summary as Summary
from lora_jax.methods.summary import summarize as summarize

METHODS = {'full': full, 'lora': lora}


def make(name: str, **options: Any) -> Method:
  """The method of that name with its options, as a config gives them.

  Raises:
    ValueError: for an unknown method or option, with the nearest names.
  """
  if name not in METHODS:
    near = difflib.get_close_matches(name, METHODS, n=3, cutoff=0) or list(METHODS)
    raise ValueError(f'unknown method {name!r}; nearest: {", ".join(near)}')
  known = inspect.signature(METHODS[name]).parameters
  if unknown := [option for option in options if option not in known]:
    raise ValueError(f'method {name!r} has no option {unknown}; it takes {list(known)}')
  return METHODS[name](**options)
