"""Ways to adapt a model, each a `Method`; `METHODS` by name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from lora_jax.methods.base import Method as Method
from lora_jax.methods.base import bind as bind
from lora_jax.methods.bottleneck import adapter_d as adapter_d
from lora_jax.methods.bottleneck import adapter_h as adapter_h
from lora_jax.methods.bottleneck import adapter_l as adapter_l
from lora_jax.methods.bottleneck import adapter_p as adapter_p
from lora_jax.methods.compose import compose as compose
from lora_jax.methods.full import full as full
from lora_jax.methods.lora import lora as lora
from lora_jax.methods.prefix import prefix_embed as prefix_embed
from lora_jax.methods.prefix import prefix_layer as prefix_layer
from lora_jax.methods.selection import bitfit as bitfit
from lora_jax.methods.selection import top_layers as top_layers
from lora_jax.methods.summary import Summary as Summary
from lora_jax.methods.summary import summarize as summarize

METHODS = {
  method.__name__: method
  for method in (
    full, lora, bitfit, top_layers, adapter_h, adapter_l, adapter_p, adapter_d, prefix_embed,
    prefix_layer,
  )
}  # fmt: skip


def make(name: str, **options: Any) -> Method:
  """The method of that name with its options, as a config gives them.

  `lora+prefix_embed` is a composition: an option goes to the first that has it, `train` to all.

  Raises:
    ValueError: for an unknown method or option, with the nearest names.
  """
  names = name.split('+')
  for part in names:
    if part not in METHODS:
      near = difflib.get_close_matches(part, METHODS, n=3, cutoff=0) or list(METHODS)
      raise ValueError(f'unknown method {part!r}; nearest: {", ".join(near)}')
  known = {part: list(inspect.signature(METHODS[part]).parameters) for part in names}
  if unknown := [option for option in options if not any(option in k for k in known.values())]:
    takes = '; '.join(f'{part} takes {", ".join(k) or "none"}' for part, k in known.items())
    raise ValueError(f'method {name!r} has no option {unknown}; {takes}')
  made = []
  for part in names:
    mine = {option: value for option, value in options.items() if option in known[part]}
    made.append(METHODS[part](**mine))
    options = {k: value for k, value in options.items() if k == 'train' or k not in mine}
  return made[0] if len(made) == 1 else compose(*made)
