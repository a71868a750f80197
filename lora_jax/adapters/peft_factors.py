"""Names and shapes of the factors in PEFT's files: of LoRA, DoRA and VeRA.

VeRA's shared factors are the only tensors outside of the wrapped model. A file may leave them out:
its seed gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lora_jax.adapters import peft_matching
from lora_jax.adapters.adapter import Options
from lora_jax.adapters.parts import BaseLayout, Shared, factor_shapes
from lora_jax.adapters.peft_config import PeftConfig
from lora_jax.errors import Shape, listed
from lora_jax.methods.vera import projections
from lora_jax.pretrained import names

LENGTHS = 'lora_magnitude_vector'  # Of DoRA.
SHARED = ('base_model.vera_A', 'base_model.vera_B')  # Of VeRA, by their whole names.
FUSED = "VeRA in PEFT has one pair of vectors for GPT-2's query, key and value together"


def keys(module: str, base: BaseLayout, is_vera: bool) -> tuple[str, str]:
  """Names of a module's two factors, or vectors, for the module's plain or full name."""
  if is_vera:
    return f'{module}.vera_lambda_d', f'{module}.vera_lambda_b'
  plain = names.plain_name(module, base.model.config.family)
  if base.modules[plain][0].startswith('embeddings/'):
    return f'{module}.lora_embedding_A', f'{module}.lora_embedding_B'
  return f'{module}.lora_A.weight', f'{module}.lora_B.weight'


def shapes(
  values: PeftConfig, base: BaseLayout, sites: Mapping[str, peft_matching.Factors], file: str
) -> dict[str, Shape]:
  """Shapes of the tensors of the factors, by name.

  Raises:
    ValueError: for modules whose factors this package does not compute.
  """
  found: dict[str, Shape] = {}
  is_vera = values['peft_type'] == 'VERA'
  if is_vera and (fused_ones := [module for module in sites if len(base.modules[module]) > 1]):
    raise ValueError(f'{file}: {FUSED}, which is not computed: {listed(fused_ones)}')
  if values['use_dora'] and (
    tables := [m for m in sites if 'embedding' in keys(m, base, False)[0]]
  ):
    raise ValueError(f'{file}: DoRA is not computed on embeddings: {listed(tables)}')
  for module, (rank, _) in sites.items():
    shapes = factor_shapes(base, base.modules[module], (rank, rank))
    vectors = tuple(shape[:1] for shape in shapes)
    found |= dict(zip(keys(module, base, is_vera), vectors if is_vera else shapes))
    if values['use_dora']:
      found[f'{module}.{LENGTHS}'] = vectors[1]
  if is_vera and values['save_projection']:
    inputs, outputs = _largest(base, sites)
    found |= dict(zip(SHARED, ((values['r'], inputs), (outputs, values['r']))))
  return found


def _largest(base: BaseLayout, sites: Iterable[str]) -> tuple[int, int]:
  """The most inputs and the most outputs of the modules, which the shared factors of VeRA have."""
  shapes = [factor_shapes(base, base.modules[module], (1, 1)) for module in sites]
  return max((a[1] for a, _ in shapes), default=0), max((b[0] for _, b in shapes), default=0)


def shared(
  values: PeftConfig, base: BaseLayout, sites: Iterable[str], plain: Mapping[str, np.ndarray]
) -> Shared:
  """The shared factors of VeRA: those of the file, or drawn by its seed as PEFT draws them."""
  if values['save_projection']:
    return Shared(*(np.asarray(plain[key], np.float32).T for key in SHARED))
  return projections(_seed(values), values['r'], *_largest(base, sites))


def options(values: PeftConfig) -> Options:
  """The options of a method that its factors do not show."""
  found: dict[str, object] = {'dropout': values['lora_dropout']}
  return found | ({'projection_seed': _seed(values)} if values['peft_type'] == 'VERA' else {})


def _seed(values: PeftConfig) -> int:
  return values['projection_prng_key'] % 2**32  # PyTorch's generator takes as many bits.
