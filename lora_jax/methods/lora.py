"""Low-rank adaptation (LoRA), arXiv 2106.09685: h = W x + (alpha / r) B A x, with W frozen.

The factors lie beside the weight that they adapt, in the model's own parameter tree,

    {'query': {'kernel': [d, k], 'bias': [k], 'lora_a': [d, r], 'lora_b': [r, k]}}

and an interceptor around the adapted module adds their product to its output. The model does not
notice, and the factors go wherever parameters go: through `nn.scan`, `nn.remat`, `nn.vmap` and
shardings. Flax multiplies from the left, so `lora_a` is the paper's A transposed, `lora_b` its B.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import ops, tree
from lora_jax.methods import initial, lowrank, sites
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.interception import Args, Context, Interceptor, Kwargs, Next
from lora_jax.methods.lowrank import FACTORS
from lora_jax.methods.sites import rule

QUERY_VALUE = r'(.*/)?(query|value)'  # The paper's choice (section 4.2), by the names used here.
# Ranks up to this one share a program of a sweep, padded to it: 2 r / d of the products with a
# matrix of width d. A larger rank is padded to less than twice itself.
SMALL_RANK = 64

Scale = Callable[[str, int], float]  # Alpha / r of a module, given its path and rank.


def _interceptor(scale: Scale, dropout: float) -> Interceptor:
  def intercept(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    wx = next_fun(*args, **kwargs)
    module, layer = context.module, lowrank.layer_of(context.module)
    if layer is None or context.method_name not in layer.methods:
      return wx
    if not module.has_variable('params', 'lora_a'):
      return wx
    a, b = (module.get_variable('params', name) for name in FACTORS)
    x, *rest = lowrank.arguments(args, kwargs)
    if dropout and not layer.transposed and module.has_rng('dropout'):
      x = ops.drop(module.make_rng('dropout'), dropout, x)
    bax = layer.update(module, context.method_name, a, b, x, *rest).astype(wx.dtype)
    if module.has_variable('params', 'lora_scale'):  # That of a sweep's member.
      return wx + module.get_variable('params', 'lora_scale').astype(wx.dtype) * bax
    return wx + scale('/'.join(module.path), a.shape[-1]) * bax

  return intercept


def lora(
  *,
  rank: int | Mapping[str, int],
  alpha: float | Mapping[str, float],
  targets: str | Sequence[str] = QUERY_VALUE,
  train: str | Sequence[str] = (),
  bias: str = 'none',
  init: str = 'uniform',
  dropout: float = 0.0,
  rslora: bool = False,
) -> Method:
  """LoRA on chosen layers of any Flax model.

  At initialization the adapted model is the base model, to the last bit.

  Args:
    rank: r, or a mapping from pattern to r; a module takes the first pattern that it matches.
    alpha: the update is scaled by alpha / r (section 4.1); or a mapping, as for `rank`.
    targets: regular expressions matched in full against module paths
      (`encoder/layers_0/attention/query`). Modules of the types `nn.Dense`, `nn.DenseGeneral`,
      `nn.Einsum`, `nn.Conv` and `nn.Embed` can be adapted.
    train: regular expressions of leaf paths that are trained as they are (`classifier/.*`).
    bias: which biases are trained as well: `none`, `adapted` (of the adapted modules) or `all`.
    init: distribution of the random factor: `uniform` in +-1/sqrt(fan_in), as loralib draws it, or
      `normal` with standard deviation 0.02. The other factor is zero. In an embedding the zero
      factor is a, and b is standard normal, as in loralib.
    dropout: rate on the input of the factors (none on embeddings, as in loralib); off in
      deterministic calls (see `bind`).
    rslora: scale by alpha / sqrt(r).

  Raises:
    ValueError: at once, for an option out of its range; from `init`, for every pattern that matches
      nothing (with the candidates) or a module that cannot be adapted, and for parameters that are
      not this model's.
  """
  targets, train = tree.as_patterns(targets), tree.as_patterns(train)
  _check_options(rank, alpha, targets, bias, init, dropout)
  scale_of: Scale = lambda path, rank: scale(rule('alpha', alpha, path), rank, rslora)
  find = functools.partial(sites.find, rank, alpha, targets)

  def split(
    key: jax.Array, model: nn.Module, params: Params, *inputs: Any, **kwargs: Any
  ) -> tuple[Tree, Tree]:
    found = find(model, *inputs, **kwargs)
    leaves = tree.flatten(nn.unbox(params))
    sites.check_params(found, leaves)
    trained = {path for paths in tree.match(train, leaves).values() for path in paths}
    trained |= {path for path in leaves if _trains_bias(bias, found, path)}
    frozen = {path: leaf for path, leaf in leaves.items() if path not in trained}
    chosen = {path: leaf for path, leaf in leaves.items() if path in trained}
    return tree.unflatten(frozen), tree.unflatten(chosen | initial.draw(key, found, init))

  return Method(
    init=split,
    merge=functools.partial(_merge, scale_of),
    interceptor=_interceptor(scale_of, dropout),
    patterns=(*targets, *train),
    # The members of a sweep may differ in everything else: zero-padded factors, and their scales.
    program=('lora', _padded_rank(rank), train, bias, dropout),
    follows=_follows,
    scales=functools.partial(_scales, find, scale_of),
  )


def scale(alpha: float, rank: int, rslora: bool = False) -> float:
  """The factor before B A x: alpha / r, or alpha / sqrt(r) (rsLoRA, arXiv 2312.03732)."""
  return alpha / (math.sqrt(rank) if rslora else rank)


def _merge(scale: Scale, frozen: Params, trainable: Params) -> Tree:
  """W + (alpha / r) B A for every adapted weight W."""
  leaves = tree.flatten(tree.join(frozen, trainable))
  for module in [path.removesuffix('lora_a') for path in leaves if path.endswith('lora_a')]:
    a, b = (leaves.pop(module + name) for name in FACTORS)
    path = next(module + name for name in ('kernel', 'embedding') if module + name in leaves)
    weight = leaves[path]
    update = lowrank.product(a, b, weight.shape)
    factor = jnp.asarray(scale(module.removesuffix('/'), a.shape[-1]))
    factor = leaves.pop(f'{module}lora_scale', factor)  # One for each of the stacked layers.
    update = jnp.expand_dims(factor, range(factor.ndim, update.ndim)) * update
    # Added in float32 and cast once: rounding twice in bfloat16 changes the model's outputs.
    leaves[path] = (weight.astype(jnp.float32) + update).astype(weight.dtype)
  return tree.unflatten(leaves)


def _scales(
  find: Callable[..., dict[str, sites.Site]],
  scale: Scale,
  model: nn.Module,
  *inputs: Any,
  **kwargs: Any,
) -> Tree:
  return tree.unflatten(
    {
      sites.inside(path, 'lora_scale'): jnp.full(site.stack, scale(path, site.rank), jnp.float32)
      for path, site in find(model, *inputs, **kwargs).items()
    }
  )


def _follows(path: str) -> tuple[str, tuple[int | None, ...]] | None:
  """`lora_a` lies as its kernel's input, `lora_b` as its output."""
  module, _, name = path.rpartition('/')
  axes = {'lora_a': (0, None), 'lora_b': (None, 1)}.get(name)
  return None if axes is None else (f'{module}/kernel', axes)


def _padded_rank(rank: int | Mapping[str, int]) -> int:
  largest = max(rank.values()) if isinstance(rank, Mapping) else rank
  return max(SMALL_RANK, 1 << (largest - 1).bit_length())


def _trains_bias(bias: str, found: Mapping[str, sites.Site], path: str) -> bool:
  module, _, name = path.rpartition('/')
  return name == 'bias' and (bias == 'all' or (bias == 'adapted' and module in found))


def _check_options(
  rank: int | Mapping[str, int],
  alpha: float | Mapping[str, float],
  targets: tuple[str, ...],
  bias: str,
  init: str,
  dropout: float,
) -> None:
  for name, value, allowed in (
    ('bias', bias, ('none', 'adapted', 'all')),
    ('init', init, ('uniform', 'normal')),
  ):
    if value not in allowed:
      raise ValueError(f'lora: {name}={value!r}: choose one of {", ".join(allowed)}')
  for number in rank.values() if isinstance(rank, Mapping) else (rank,):
    if not isinstance(number, int) or number < 1:
      raise ValueError(f'lora: rank={number!r}: a rank is a whole number from 1 up')
  for number in alpha.values() if isinstance(alpha, Mapping) else (alpha,):
    if not math.isfinite(number) or number <= 0:
      raise ValueError(f'lora: alpha={number!r}: alpha is a positive number; the scale is alpha/r')
  if not 0 <= dropout < 1:
    raise ValueError(f'lora: dropout={dropout!r}: a rate lies in [0, 1)')
  if not targets:
    raise ValueError('lora: targets is empty: name the modules to adapt')
