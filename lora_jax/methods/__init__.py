"""Ways to adapt a model, each a `Method`; `METHODS` by name."""

from __future__ import annotations

import inspect
from typing import Any

from lora_jax import errors
from lora_jax.methods.base import Method as Method
from lora_jax.methods.base import bind as bind
from lora_jax.methods.bottleneck import adapter_d as adapter_d
from lora_jax.methods.bottleneck import adapter_h as adapter_h
from lora_jax.methods.bottleneck import adapter_l as adapter_l
from lora_jax.methods.bottleneck import adapter_p as adapter_p
from lora_jax.methods.compose import compose as compose
from lora_jax.methods.full import full as full
from lora_jax.methods.intrinsic import intrinsic as intrinsic
from lora_jax.methods.lora import lora as lora
from lora_jax.methods.masking import masked as masked
from lora_jax.methods.prefix import prefix_embed as prefix_embed
from lora_jax.methods.prefix import prefix_layer as prefix_layer
from lora_jax.methods.selection import bitfit as bitfit
from lora_jax.methods.selection import top_layers as top_layers
from lora_jax.methods.summary import Summary as Summary
from lora_jax.methods.summary import summarize as summarize
from lora_jax.methods.vera import vera as vera

METHODS = {
  'full': full,
  'lora': lora,
  'vera': vera,
  'bitfit': bitfit,
  'top_layers': top_layers,
  'adapter_h': adapter_h,
  'adapter_l': adapter_l,
  'adapter_p': adapter_p,
  'adapter_d': adapter_d,
  'prefix_embed': prefix_embed,
  'prefix_layer': prefix_layer,
  'intrinsic': intrinsic,
}


def make(name: str, **options: Any) -> Method:
  """The method of that name with its options, as a config gives them.

  `lora+prefix_embed` is a composition of two methods: an option goes to the first method that has
  it, `train` to all of them. `compose` takes the options of each in `methods`, as `Method.options`
  holds them.

  Raises:
    ValueError: for an unknown method or option, with the nearest names.
  """
  if name == 'compose':
    if options.keys() != {'methods'}:
      raise ValueError(f"method 'compose' has the option 'methods' alone, found {list(options)}")
    return compose(*(make(**one) for one in options['methods']))
  names = name.split('+')
  for part in names:
    if part not in METHODS:
      raise ValueError(f'unknown method {part!r}. {errors.nearest(part, METHODS)}')
  known = {part: list(inspect.signature(METHODS[part]).parameters) for part in names}
  every = dict.fromkeys(option for own in known.values() for option in own)
  if unknown := [option for option in options if option not in every]:
    problems = (f'no option {option!r}. {errors.nearest(option, every)}' for option in unknown)
    raise ValueError(f'method {name!r} has {" It has ".join(problems)}')
  parts = []
  for part in names:
    own = {option: value for option, value in options.items() if option in known[part]}
    parts.append(METHODS[part](**own))
    options = {k: value for k, value in options.items() if k == 'train' or k not in own}
  return parts[0] if len(parts) == 1 else compose(*parts)
