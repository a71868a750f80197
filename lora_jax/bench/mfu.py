"""Utilization of a device's arithmetic by a train step (model FLOPs utilization, MFU)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import tree
from lora_jax.bench.steps import Case, Make, build, times
from lora_jax.bench.timing import Measured, Rounds, Row, seconds_of
from lora_jax.cost import topology
from lora_jax.models import presets

# FLOPs of a step for each parameter and token: two for the product of the forward pass and two for
# that of the activations' gradient; two more for the weights' where they are trained.
FROZEN, TRAINED = 4, 6
OUTPUT = ('lm_head/kernel', 'embeddings/word/embedding')  # Of a language model: its own, or tied.
PRODUCT = {'cpu': (1024, 'float32')}  # By platform: size and dtype of the product that is timed.
ACCELERATOR_PRODUCT = (8192, 'bfloat16')


def parameters(model: nn.Module) -> tuple[int, int]:
  """Parameters that every token is multiplied with, and those that prediction positions are.

  The first are all but embeddings and the head; the second are the head's, which of a language
  model is the table of word embeddings. Factors of LoRA, under 1 %, are not counted.
  """
  params = presets.abstract_params(model)
  own = [path for path in OUTPUT if path in tree.flatten(params)]
  body, head = tree.split(params, model.head or own[:1])
  sizes = {path: leaf.size for path, leaf in tree.flatten(body).items()}
  return sum(n for path, n in sizes.items() if not path.endswith('/embedding')), tree.count(head)


def flops(model: nn.Module, case: Case, *, frozen: bool) -> float:
  """FLOPs of a step as they are counted for utilization: attention's products do not count.

  Args:
    model: the model.
    case: the batch; its padding counts as tokens, since it is computed.
    frozen: whether the base is; otherwise its weights have gradients.
  """
  body, head = parameters(model)
  each = FROZEN if frozen else TRAINED
  return float(each * (body * case.batch['input_ids'].size + head * case.batch['labels'].size))


class Product(NamedTuple):
  """A matrix product that was timed: what was multiplied, and the FLOP/s that it reached."""

  what: str
  flops: float


def product(size: int = 0, dtype: str = '', rounds: int = 5) -> Product:
  """Times a square matrix product on the default device.

  Args:
    size, dtype: of the factors; by default 8192 and bfloat16 on an accelerator, 1024 and float32
      on a CPU.
    rounds: timed rounds of 10 products (of 2 on a CPU), of which the median counts.
  """
  platform = jax.devices()[0].platform
  default_size, default_dtype = PRODUCT.get(platform, ACCELERATOR_PRODUCT)
  size, dtype = size or default_size, dtype or default_dtype
  x = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
  multiply = jax.jit(jnp.matmul)
  jax.block_until_ready(multiply(x, x))
  calls = 2 if platform == 'cpu' else 10
  seconds = [seconds_of(lambda: multiply(x, x), calls) for _ in range(rounds)]
  return Product(f'{size}^3 in {dtype}', 2 * size**3 / statistics.median(seconds))


def product_table(found: Product) -> Measured:
  """The product and the published peak of the default device."""
  device = jax.devices()[0].device_kind
  row = {'tflops_per_second': found.flops / 1e12}
  if peak := topology.published_peak(device):
    row |= {'published': peak / 1e12, 'of_published': found.flops / peak}
  return Measured({found.what: row}, f'TFLOP/s of {device}: what a plain product reaches.')


def compare(
  makers: Mapping[str, Make],
  full: set[str],
  case: Case,
  rounds: Rounds,
  reached: Product,
  jobs: int = 1,
) -> Measured:
  """Seconds, FLOP/s and utilization of steps on one batch.

  Args:
    makers, case, rounds, jobs: as for `steps.build`.
    full: names of the variants that train all parameters.
    reached: a product on the same device.
  """
  device = jax.devices()[0].device_kind
  peak = topology.published_peak(device)
  variants, skipped = build(makers, case, rounds, jobs)
  seconds = times(variants, case, rounds)
  tokens = case.batch['input_ids'].size
  rows: dict[str, Row] = {}
  for name, variant in variants.items():
    rate = flops(variant.model, case, frozen=name not in full) / seconds[name]
    rows[name] = {
      'seconds': seconds[name],
      'tokens_per_second': tokens / seconds[name],
      'tflops_per_second': rate / 1e12,
      **({} if peak is None else {'of_published': rate / peak}),
      'of_product': rate / reached.flops,
      'peak_bytes': variant.size(case.times(rounds.steps_per_call))['peak_bytes'],
    }
    if jobs == 1:
      found = variant.program(case.times(rounds.steps_per_call))
      rows[name] |= {'tracing': found.tracing, 'compiling': found.compiling}
  against = 'no published peak' if peak is None else f'{peak / 1e12:.0f} TFLOP/s published'
  note = (
    f'Utilization of {device} ({against}; a product of {reached.what} reached '
    f'{reached.flops / 1e12:.4g}): FLOPs of a step are 4 N a token, 6 N where all is '
    'trained, with N all parameters but embeddings, and the head where it is applied; higher is '
    f'better. Seconds of a step are {rounds}.'
  )
  return Measured(rows, note, skipped)
