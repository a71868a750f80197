"""Low-rank adaptation (LoRA), arXiv 2106.09685: h = W x + (alpha / r) b a x, W frozen.

The factors lie beside the weight they adapt, in the model's own parameter tree,

    {'query': {'kernel': [d, k], 'bias': [k], 'lora_a': [d, r], 'lora_b': [r, k]}}

and enter the forward pass by an interceptor around the adapted module, which the model does not
notice. So they go wherever parameters go: through `nn.scan`, `nn.remat`, `nn.vmap` and shardings.
A leaf `lora_scale` beside them takes the place of alpha / r (`Method.scales`).
"""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import tree
from lora_jax.methods import added, lowrank
from lora_jax.methods.base import Method
from lora_jax.ops import drop

QUERY_VALUE = r'(.*/)?(query|value)'  # The paper's choice (section 4.2), by the names used here.
FACTORS = ('lora_a', 'lora_b')  # The leaves beside an adapted weight.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
  """What `lora` was asked for; see there."""

  rank: int | Mapping[str, int]
  alpha: float | Mapping[str, float]
  targets: tuple[str, ...]
  train: tuple[str, ...]
  bias: str
  init: str
  dropout: float
  rslora: bool

  def __post_init__(self) -> None:
    for name, allowed in (('bias', ('none', 'adapted', 'all')), ('init', ('uniform', 'normal'))):
      if getattr(self, name) not in allowed:
        raise ValueError(f'lora: {name}={getattr(self, name)!r}: choose one of {allowed}')
    for rank in self.rank.values() if isinstance(self.rank, Mapping) else (self.rank,):
      if not isinstance(rank, int) or rank < 1:
        raise ValueError(f'lora: rank={rank!r}: a rank is a whole number from 1 up')
    for alpha in self.alpha.values() if isinstance(self.alpha, Mapping) else (self.alpha,):
      if not math.isfinite(alpha) or alpha <= 0:
        raise ValueError(f'lora: alpha={alpha!r}: alpha is a positive number; the scale is alpha/r')
    if not 0 <= self.dropout < 1:
      raise ValueError(f'lora: dropout={self.dropout!r}: a rate lies in [0, 1)')
    if not self.targets:
      raise ValueError('lora: targets is empty: name the modules to adapt')

  def scale(self, path: str, rank: int) -> float:
    """The factor before b a x; see `scale`."""
    return scale(self.alpha, path, rank, self.rslora)


class Site(NamedTuple):
  """An adapted module: its kind, one layer's factors, and the shapes with its layers stacked."""

  layer: lowrank.Layer
  factors: lowrank.Factors
  weight: lowrank.Shape
  stacked: Mapping[str, lowrank.Shape]


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

  At initialisation the adapted model is the base model, to the last bit.

  Args:
    rank: r, or a mapping from pattern to r; a module takes the first pattern that it matches.
    alpha: the update is scaled by alpha / r (section 4.1); or a mapping, as for `rank`.
    targets: regular expressions matched in full against module paths
      (`encoder/layers_0/attention/query`). Adaptable are `nn.Dense`, `nn.DenseGeneral`,
      `nn.Einsum`, `nn.Conv` and `nn.Embed`.
    train: regular expressions of leaf paths that are trained as they are (`classifier/.*`).
    bias: which biases are trained besides: `none`, `adapted` (of the adapted modules) or `all`.
    init: of the random factor: `uniform` in +-1/sqrt(fan_in), as loralib draws it, or `normal` with
      standard deviation 0.02. The other factor is zero. In an embedding the zero one is a, and b is
      standard normal, as in loralib.
    dropout: rate on the input of the factors (none on embeddings, as in loralib); off in
      deterministic calls (see `bind`).
    rslora: scale by alpha / sqrt(r).

  Raises:
    ValueError: at once, for an option out of its range; from `init`, for every pattern that matches
      nothing (with the candidates) or a module that cannot be adapted, and for parameters that are
      not this model's.
  """
  spec = Spec(
    rank=rank, alpha=alpha, targets=tree.as_patterns(targets), train=tree.as_patterns(train),
    bias=bias, init=init, dropout=dropout, rslora=rslora,
  )  # fmt: skip

  def init_fn(
    key: jax.Array, model: nn.Module, params: tree.Params, *inputs: Any, **kwargs: Any
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    sites = find_sites(spec, model, *inputs, **kwargs)
    leaves = tree.flatten(nn.unbox(params))
    _check_params(sites, leaves)
    factors = {}
    for path, site in sites.items():
      for name, shape in site.stacked.items():
        # The key depends on the path alone: adding a target changes no other factor.
        leaf_key = jax.random.fold_in(key, zlib.crc32(_inside(path, name).encode()))
        factors[_inside(path, name)] = _initial(spec, site, name, shape, leaf_key)
    trained = {path for found in tree.match(spec.train, leaves).values() for path in found}
    trained |= {path for path in leaves if _trains_bias(spec, sites, path)}
    frozen = {path: leaf for path, leaf in leaves.items() if path not in trained}
    chosen = {path: leaf for path, leaf in leaves.items() if path in trained}
    return tree.unflatten(frozen), tree.unflatten(chosen | factors)

  def interceptor(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
    y = next_fun(*args, **kwargs)
    module, layer = context.module, lowrank.layer_of(context.module)
    if layer is None or context.method_name not in layer.methods:
      return y
    if not module.has_variable('params', 'lora_a'):
      return y
    a, b = (module.get_variable('params', name) for name in ('lora_a', 'lora_b'))
    x, *rest = _arguments(args, kwargs)
    if spec.dropout and not layer.swap and module.has_rng('dropout'):
      x = drop(module.make_rng('dropout'), spec.dropout, x)
    update = layer.update(module, context.method_name, a, b, x, *rest).astype(y.dtype)
    if module.has_variable('params', 'lora_scale'):
      return y + module.get_variable('params', 'lora_scale').astype(y.dtype) * update
    return y + spec.scale('/'.join(module.path), a.shape[-1]) * update

  def merge(frozen: tree.Params, trainable: tree.Params) -> dict[str, Any]:
    leaves = tree.flatten(tree.join(frozen, trainable))
    for path in [path.removesuffix('lora_a') for path in leaves if _name(path) == 'lora_a']:
      a, b = leaves.pop(f'{path}lora_a'), leaves.pop(f'{path}lora_b')
      weight = f'{path}kernel' if f'{path}kernel' in leaves else f'{path}embedding'
      update = lowrank.product(a, b, leaves[weight].shape)
      own = jnp.asarray(spec.scale(path.removesuffix('/'), a.shape[-1]))
      scale = leaves.pop(f'{path}lora_scale', own)
      update = scale.reshape(scale.shape + (1,) * (update.ndim - scale.ndim)) * update
      # Added in float32 and cast once: rounding twice in bfloat16 changes the model's outputs.
      merged = leaves[weight].astype(jnp.float32) + update
      leaves[weight] = merged.astype(leaves[weight].dtype)
    return tree.unflatten(leaves)

  def scales(model: nn.Module, *inputs: Any, **kwargs: Any) -> dict[str, Any]:
    found = {}
    for path, site in find_sites(spec, model, *inputs, **kwargs).items():
      a = site.stacked['lora_a']
      stack = a[: len(a) - len(site.factors.a)]
      found[_inside(path, 'lora_scale')] = jnp.full(stack, spec.scale(path, a[-1]), jnp.float32)
    return tree.unflatten(found)

  return Method(
    init=init_fn,
    merge=merge,
    interceptor=interceptor,
    patterns=(*spec.targets, *spec.train),
    scales=scales,
  )


def rule(name: str, value: Any, path: str) -> Any:
  """The number of an option for a module: itself, or that of the first pattern matching the path.

  Raises:
    ValueError: if the option `name` is a mapping and none of its patterns matches.
  """
  if not isinstance(value, Mapping):
    return value
  for pattern, number in value.items():
    if _fullmatch(pattern, path):
      return number
  raise ValueError(
    f'lora: {name} has no pattern for {path!r}: {list(value)}. Add ".*" as the last.'
  )


def scale(alpha: float | Mapping[str, float], path: str, rank: int, rslora: bool = False) -> float:
  """The factor before b a x: alpha / r, or alpha / sqrt(r) (rsLoRA, arXiv 2312.03732).

  Args:
    alpha: as for `lora`.
    path: of the module.
    rank: of its factors.
    rslora: as for `lora`.

  Raises:
    ValueError: if `alpha` is a mapping with no pattern for the path.
  """
  return rule('alpha', alpha, path) / (math.sqrt(rank) if rslora else rank)


def find_sites(spec: Spec, model: nn.Module, *inputs: Any, **kwargs: Any) -> dict[str, Site]:
  """Adapted modules by path, from one abstract run of `model.init`; see `lora` for the errors.

  The run puts placeholders where the factors go, and so learns their stacked shapes from the
  model's own transformations, whatever they are.
  """
  found: dict[str, tuple[lowrank.Layer, lowrank.Factors]] = {}
  adaptable: list[str] = []
  others: dict[str, str] = {}

  def record(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
    y = next_fun(*args, **kwargs)
    module, layer = context.module, lowrank.layer_of(context.module)
    path = '/'.join(module.path)
    if layer is None or getattr(module, 'mask', None) is not None:
      masked = '' if layer is None else ' with a mask'
      others[path] = type(module).__name__ + masked
    elif context.method_name in layer.methods:
      adaptable.append(path)
      if any(_fullmatch(pattern, path) for pattern in spec.targets):
        weight = nn.unbox(module.get_variable('params', layer.weight)).shape
        rank = rule('rank', spec.rank, path)
        factors = layer.factors(module, weight, rank, *_arguments(args, kwargs))
        found[path] = layer, factors
        for name, shape in (('lora_a', factors.a), ('lora_b', factors.b)):
          if not module.has_variable('params', name):
            module.put_variable('params', name, jnp.zeros(shape))
    return y

  shapes = added.init_shapes(model, record, inputs, kwargs)
  for pattern in spec.targets:
    wrong = [path for path in others if _fullmatch(pattern, path)]
    if wrong and not any(_fullmatch(pattern, path) for path in adaptable):
      raise ValueError(
        f'target {pattern!r} matches {wrong[0]!r}, which is a {others[wrong[0]]}. Factors go on '
        f'{", ".join(kind.__name__ for kind in lowrank.LAYERS)}.'
      )
  tree.match(spec.targets, dict.fromkeys(adaptable), 'module that lora can adapt')
  for name in ('rank', 'alpha'):
    if isinstance(getattr(spec, name), Mapping):
      tree.match(getattr(spec, name), found, f'adapted module (in {name})')
  return {
    path: Site(
      layer, factors, shapes[_inside(path, layer.weight)].shape,
      {name: shapes[_inside(path, name)].shape for name in ('lora_a', 'lora_b')},
    )
    for path, (layer, factors) in found.items()
  }  # fmt: skip


def _check_params(sites: Mapping[str, Site], leaves: Mapping[str, Any]) -> None:
  problems = []
  for path, site in sites.items():
    weight = _inside(path, site.layer.weight)
    if weight not in leaves:
      problems.append(f'{weight}: missing, expected {site.weight}')
    elif leaves[weight].shape != site.weight:
      problems.append(f'{weight}: {leaves[weight].shape}, expected {site.weight}')
    elif _inside(path, 'lora_a') in leaves:
      problems.append(f'{path}: has factors already; merge them first')
  if problems:
    raise ValueError(
      'params are not the parameters of this model (pass `variables["params"]`):\n  '
      + '\n  '.join(problems)
    )


def _initial(spec: Spec, site: Site, name: str, shape: lowrank.Shape, key: jax.Array) -> jax.Array:
  """One factor at the start, float32: zero or random, so that the update is zero."""
  if (name == 'lora_a') == site.layer.swap:
    return jnp.zeros(shape, jnp.float32)
  if site.layer.swap:
    return jax.random.normal(key, shape, jnp.float32)
  if spec.init == 'normal':
    return 0.02 * jax.random.normal(key, shape, jnp.float32)
  # Kaiming-uniform with a = sqrt(5), as in torch.nn.Linear: the bound is 1 / sqrt(fan_in).
  bound = 1 / math.sqrt(site.factors.fan_in)
  return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def _trains_bias(spec: Spec, sites: Mapping[str, Site], path: str) -> bool:
  if spec.bias == 'none' or _name(path) != 'bias':
    return False
  return spec.bias == 'all' or path.removesuffix('bias').removesuffix('/') in sites


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
  """A layer's arguments in order: its input first, then (an einsum's) equation."""
  named = [kwargs[name] for name in ('inputs', 'query', 'einsum_str') if name in kwargs]
  return (*args, *named)


def _fullmatch(pattern: str, path: str) -> bool:
  try:
    return re.fullmatch(pattern, path) is not None
  except re.error as error:
    raise ValueError(f'{pattern!r} is not a regular expression: {error}') from error


def _inside(path: str, name: str) -> str:
  return f'{path}/{name}' if path else name


def _name(path: str) -> str:
  return path.rpartition('/')[2]
