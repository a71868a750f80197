"""LoRA (arXiv 2106.09685) for JAX and Flax: adapt a model, train it, rerun the paper."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lora_jax.adapters import attach as attach
from lora_jax.adapters import load as load
from lora_jax.adapters import load_adapter as load_adapter
from lora_jax.adapters import load_peft as load_peft
from lora_jax.adapters import save as save
from lora_jax.adapters import save_adapter as save_adapter
from lora_jax.adapters import save_peft as save_peft
from lora_jax.methods import METHODS as METHODS
from lora_jax.methods import Method as Method
from lora_jax.methods import adapter_d as adapter_d
from lora_jax.methods import adapter_h as adapter_h
from lora_jax.methods import adapter_l as adapter_l
from lora_jax.methods import adapter_p as adapter_p
from lora_jax.methods import bind as bind
from lora_jax.methods import bitfit as bitfit
from lora_jax.methods import compose as compose
from lora_jax.methods import full as full
from lora_jax.methods import intrinsic as intrinsic
from lora_jax.methods import lora as lora
from lora_jax.methods import masked as masked
from lora_jax.methods import prefix_embed as prefix_embed
from lora_jax.methods import prefix_layer as prefix_layer
from lora_jax.methods import summarize as summarize
from lora_jax.methods import top_layers as top_layers
from lora_jax.methods import vera as vera
from lora_jax.pretrained import load_model as load_model
from lora_jax.tree import count as count
from lora_jax.tree import join as join
from lora_jax.tree import split as split

__version__ = '0.1.0'

if TYPE_CHECKING:
  from lora_jax.nnx import adapt as adapt
  from lora_jax.nnx import params as params
  from lora_jax.nnx import reseed as reseed
  from lora_jax.nnx import to_nnx as to_nnx
  from lora_jax.nnx import update as update

_OF_NNX = ('adapt', 'params', 'reseed', 'to_nnx', 'update')


def __getattr__(name: str) -> object:
  """The names of `nnx.py`, loaded when first used: flax.nnx takes 0.1 seconds to import."""
  if name != 'nnx' and name not in _OF_NNX:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module('lora_jax.nnx')
  return module if name == 'nnx' else getattr(module, name)
