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
from jax import lax

from lora_jax import ops, tree
from lora_jax.methods import dora as magnitude
from lora_jax.methods import initial, lowrank, sites
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.interception import Args, Context, Interceptor, Kwargs, Next
from lora_jax.methods.lowrank import FACTORS, MAGNITUDE, START
from lora_jax.methods.models import Model
from lora_jax.methods.options import recorded
from lora_jax.methods.sites import rule

QUERY_VALUE = r'(.*/)?(query|value)'  # The paper's choice (section 4.2), by the names used here.
Scale = Callable[[str, int], float]  # Alpha / r of a module, given its path and rank.


def _interceptor(scale: Scale, dropout: float, train_a: bool) -> Interceptor:
  def intercept(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    wx = next_fun(*args, **kwargs)
    module, layer = context.module, lowrank.layer_of(context.module)
    if layer is None or context.method_name not in layer.methods:
      return wx
    if not module.has_variable('params', 'lora_a'):
      return wx
    leaf = functools.partial(module.get_variable, 'params')
    a, b = map(leaf, FACTORS)
    a = a if train_a else lax.stop_gradient(a)
    whole, *rest = lowrank.arguments(args, kwargs)
    x, drops = whole, dropout and not layer.transposed and module.has_rng('dropout')
    if drops:
      x = ops.drop(module.make_rng('dropout'), dropout, x)
    update = ops.sharded_as(wx, functools.partial(layer.update, module, context.method_name))
    bax = update(a, b, x, *rest).astype(wx.dtype)
    if module.has_variable('params', START[0]):
      start = map(lax.stop_gradient, map(leaf, START))
      bax -= update(*start, whole, *rest).astype(wx.dtype)
    in_sweep = module.has_variable('params', 'lora_scale')
    s = leaf('lora_scale') if in_sweep else scale('/'.join(module.path), a.shape[-1])
    bax = jnp.asarray(s, wx.dtype) * bax
    if not module.has_variable('params', MAGNITUDE):
      return wx + bax
    g = magnitude.gain(leaf(layer.weight), a, b, s, leaf(MAGNITUDE))
    return magnitude.output(module, x if drops else None, wx, bax, g)

  return intercept


@recorded
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
  train_a: bool = True,
  dora: bool = False,
) -> Method:
  """LoRA on chosen layers of any Flax model.

  At initialization the adapted model is the base model, to the last bit; with `dora` to rounding.

  Args:
    rank: r, or a mapping from pattern to r; a module takes the first pattern that it matches.
    alpha: the update is scaled by alpha / r (section 4.1); or a mapping, as for `rank`.
    targets: regular expressions matched in full against module paths
      (`encoder/layers_0/attention/query`). Modules of the types `nn.Dense`, `nn.DenseGeneral`,
      `nn.Einsum`, `nn.Conv` and `nn.Embed` can be adapted.
    train: regular expressions of leaf paths that are trained as they are (`classifier/.*`), in the
      dtype that `params` have there. The factors are float32.
    bias: which biases are trained as well: `none`, `adapted` (of the adapted modules) or `all`.
    init: distribution of the random factor: `uniform` in +-1/sqrt(fan_in), as loralib draws it, or
      `normal` with standard deviation 0.02. The other factor is zero. In an embedding the zero
      factor is a, and b is standard normal, as in loralib. `pissa`, `pissa_fast` and `olora` start
      with a part of the weight, see `initial.of_weight`; what they start with is subtracted, and
      the base stays.
    dropout: rate on the input of the factors (none on embeddings, as in loralib); off in
      deterministic calls (see `bind`).
    rslora: scale by alpha / sqrt(r).
    train_a: False keeps a as it is drawn (LoRA-FA, arXiv 2308.03303); it is saved with the run.
    dora: train the length of each column of a dense layer's weight as well (`dora.py`).

  Raises:
    ValueError: at once, for an option out of its range; from `init`, for every pattern that matches
      nothing (with the candidates) or a module that cannot be adapted, and for parameters that are
      not this model's.
  """
  targets, train = tree.as_patterns(targets), tree.as_patterns(train)
  sites.check_options('lora', rank, alpha, targets, dropout)
  initial.check_options(init, bias, dora)
  scale_of: Scale = lambda path, rank: scale(rule('alpha', alpha, path), rank, rslora)
  find = functools.partial(sites.find, 'lora', rank, alpha, targets)

  def split(
    key: jax.Array, model: Model, params: Params, *inputs: Any, **kwargs: Any
  ) -> tuple[Tree, Tree]:
    found = find(model, *inputs, **kwargs)
    leaves = tree.flatten(nn.unbox(params))
    sites.check_params(found, leaves)
    trained = {path for paths in tree.match(train, leaves).values() for path in paths}
    trained |= {path for path in leaves if _trains_bias(bias, found, path)}
    frozen = {path: leaf for path, leaf in leaves.items() if path not in trained}
    chosen = {path: leaf for path, leaf in leaves.items() if path in trained}
    own = initial.draw(key, found, init)
    if init in initial.OF_WEIGHT:
      own |= initial.of_weight(init, found, leaves, scale_of)
    if dora:
      own |= initial.magnitudes(found, leaves)
    if not train_a:
      initial.check_kinds('lora: train_a=False', found, lambda layer: not layer.transposed)
    return tree.unflatten(frozen), tree.unflatten(chosen | own)

  padded = lowrank.padded_rank(rank)
  return Method(
    init=split,
    merge=functools.partial(_merge, scale_of),
    interceptor=_interceptor(scale_of, dropout, train_a),
    patterns=(*targets, *train),
    # The members of a sweep may differ in everything else: zero-padded factors, and their scales.
    # A module that a member does not adapt has no magnitude: zeros would not leave it as it is.
    program=('lora', padded, train, bias, dropout, train_a, targets if dora else None),
    follows=_follows,
    scales=functools.partial(_scales, find, scale_of),
    fixed=lambda path: _is_fixed(path, train_a),
  )


def scale(alpha: float, rank: int, rslora: bool = False) -> float:
  """The factor before B A x: alpha / r, or alpha / sqrt(r) (rsLoRA, arXiv 2312.03732)."""
  return alpha / (math.sqrt(rank) if rslora else rank)


def _merge(scale: Scale, frozen: Params, trainable: Params) -> Tree:
  """W + (alpha / r) B A for every adapted weight W."""
  leaves = tree.flatten(tree.join(frozen, trainable))
  for module in [path.removesuffix('lora_a') for path in leaves if path.endswith('lora_a')]:
    a, b = (leaves.pop(module + name) for name in FACTORS)
    path = next(module + name for name in lowrank.WEIGHTS if module + name in leaves)
    weight = leaves[path]
    update = lowrank.product(a, b, weight.shape)
    if module + START[0] in leaves:
      a0, b0 = (leaves.pop(module + name) for name in START)
      update -= lowrank.product(a0, b0, weight.shape)
    factor = jnp.asarray(scale(module.removesuffix('/'), a.shape[-1]))
    factor = leaves.pop(f'{module}lora_scale', factor)  # One for each of the stacked layers.
    update = jnp.expand_dims(factor, range(factor.ndim, update.ndim)) * update
    # Added in float32 and cast once: rounding twice in bfloat16 changes the model's outputs.
    merged = weight.astype(jnp.float32) + update
    if module + MAGNITUDE in leaves:
      n_stack = a.ndim + b.ndim - weight.ndim - 2
      merged = magnitude.scaled(merged, leaves.pop(module + MAGNITUDE), n_stack)
    leaves[path] = merged.astype(weight.dtype)
  return tree.unflatten(leaves)


def _scales(
  find: Callable[..., dict[str, sites.Site]],
  scale: Scale,
  model: Model,
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
  """`lora_a` lies as its kernel's input, `lora_b` and a magnitude as its output."""
  module, _, name = path.rpartition('/')
  axes = {'lora_a': (0, None), 'lora_b': (None, 1), MAGNITUDE: (1,)}.get(name.removesuffix('0'))
  return None if axes is None else (sites.inside(module, 'kernel'), axes)


def _is_fixed(path: str, train_a: bool) -> bool:
  name = path.rpartition('/')[2]
  return name in START or (name == FACTORS[0] and not train_a)


def _trains_bias(bias: str, found: Mapping[str, sites.Site], path: str) -> bool:
  module, _, name = path.rpartition('/')
  return name == 'bias' and (bias == 'all' or (bias == 'adapted' and module in found))
