"""The modules that LoRA adapts in a model, and the shapes of their factors.

They are found by one abstract run of `model.init` which puts placeholders where the factors go. So
the model's own transformations say how the factors are stacked, whatever they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from lora_jax import errors, tree
from lora_jax.methods import added, lowrank
from lora_jax.methods.interception import Args, Context, Kwargs, Next
from lora_jax.methods.lowrank import FACTORS, Layer, Shape
from lora_jax.methods.models import Model

OWN_CALL = ' with a call of its own, and does not say `computes_as_its_base = True`'


class Site(NamedTuple):
  """An adapted module.

  Attributes:
    layer: what is known of its kind.
    rank: the rank r of its factors.
    fan_in: how many inputs are summed in each of its outputs.
    weight: the path and the shape of the adapted weight.
    factors: the shapes of `lora_a` and `lora_b` by their paths.
    stack: the axes in front of these shapes that stacked layers add.
    is_output: whether the weight, a table, makes an output layer as well (`attend`).
  """

  layer: Layer
  rank: int
  fan_in: int
  weight: tuple[str, Shape]
  factors: dict[str, Shape]
  stack: Shape
  is_output: bool = False


def find(
  method: str,
  rank: int | Mapping[str, int],
  alpha: float | Mapping[str, float],
  targets: tuple[str, ...],
  model: Model,
  *inputs: Any,
  **kwargs: Any,
) -> dict[str, Site]:
  """The adapted modules by path; `lora` says what the arguments are and which errors are raised.

  `method` is its name in the errors.
  """
  found: dict[str, tuple[Layer, lowrank.Factors]] = {}
  adaptable: dict[str, None] = {}
  others: dict[str, str] = {}
  outputs: set[str] = set()

  def record(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    y = next_fun(*args, **kwargs)
    module, layer = context.module, lowrank.layer_of(context.module)
    path = '/'.join(module.path)
    if layer is None or getattr(module, 'mask', None) is not None:
      own = OWN_CALL if lowrank.has_own_call(module) else ''
      others[path] = type(module).__name__ + (' with a mask' if layer else own)
    elif context.method_name in layer.methods:
      adaptable[path] = None
      if any(matches(pattern, path) for pattern in targets):
        weight = nn.unbox(module.get_variable('params', layer.weight)).shape
        called = lowrank.arguments(args, kwargs)
        factors = layer.factors(module, weight, rule('rank', rank, path), *called)
        found[path] = layer, factors
        _check_alone(method, path, model)
        _put_placeholders(module, factors)
        if context.method_name == 'attend':
          outputs.add(path)
    return y

  shapes = added.init_shapes(model, record, inputs, kwargs)
  _check_targets(method, targets, adaptable, others)
  for name, value in (('rank', rank), ('alpha', alpha)):
    if isinstance(value, Mapping):
      tree.match(list(value), found, f'adapted module (in {name})')
  made = {path: _site(path, *entry, shapes) for path, entry in found.items()}
  return {path: site._replace(is_output=path in outputs) for path, site in made.items()}


def check_options(
  method: str,
  rank: int | Mapping[str, int],
  alpha: float | Mapping[str, float],
  targets: tuple[str, ...],
  dropout: float,
) -> None:
  """Raises a ValueError for an option of `lora`, or of `method`, that is out of its range."""
  for name, value in (('rank', rank), ('alpha', alpha)):
    if isinstance(value, Mapping) and not value:
      raise ValueError(f'{method}: {name}={{}}: a mapping has a number for each pattern')
  for number in rank.values() if isinstance(rank, Mapping) else (rank,):
    if not isinstance(number, int) or number < 1:
      raise ValueError(f'{method}: rank={number!r}: a rank is a whole number from 1 up')
  for number in alpha.values() if isinstance(alpha, Mapping) else (alpha,):
    if not math.isfinite(number) or number <= 0:
      raise ValueError(
        f'{method}: alpha={number!r}: alpha is a positive number; the scale is alpha/r'
      )
  if not 0 <= dropout < 1:
    raise ValueError(f'{method}: dropout={dropout!r}: a rate lies in [0, 1)')
  if not targets:
    raise ValueError(f'{method}: targets is empty: name the modules to adapt')


def rule(name: str, value: Any, path: str) -> Any:
  """The value of an option for a module: if it is a mapping, that of the first matching pattern.

  Raises:
    ValueError: if the option `name` is a mapping and no pattern of it matches the path.
  """
  if not isinstance(value, Mapping):
    return value
  for pattern, number in value.items():
    if matches(pattern, path):
      return number
  raise ValueError(
    f'lora: {name} has no pattern for {path!r}: {list(value)}. Add ".*" as the last.'
  )


def matches(pattern: str, path: str) -> bool:
  """Whether a pattern matches a whole path.

  Raises:
    ValueError: if the pattern is not a regular expression.
  """
  try:
    return re.fullmatch(pattern, path) is not None
  except re.error as error:
    raise ValueError(f'{pattern!r} is not a regular expression: {error}') from error


def check_params(sites: Mapping[str, Site], leaves: tree.Params) -> None:
  """Raises a ValueError if the leaves of `params` are not those of the model, or are adapted."""
  problems = []
  for path, site in sites.items():
    weight, shape = site.weight
    if weight not in leaves:
      problems.append(f'{weight}: missing, expected {shape}')
    elif leaves[weight].shape != shape:
      problems.append(f'{weight}: {leaves[weight].shape}, expected {shape}')
    elif any(factor in leaves for factor in site.factors):
      problems.append(f'{path}: has factors already; merge them first')
  own = {factor for site in sites.values() for factor in site.factors}
  if other := [path for path in leaves if path.endswith(FACTORS[0]) and path not in own]:
    problems.append(
      f'{errors.listed(other)}: would be read as factors of this method; merge or rename them'
    )
  if problems:
    raise ValueError(
      'params are not the parameters of this model (pass `variables["params"]`):\n  '
      + '\n  '.join(problems)
    )


def inside(path: str, name: str) -> str:
  """The path of a leaf in a module; the path of the model itself is empty."""
  return f'{path}/{name}' if path else name


def _check_alone(method: str, path: str, model: Model) -> None:
  """Raises a ValueError if a module holds a parameter that another module holds as well."""
  shared: Mapping[str, list[str]] = getattr(model, 'shared', {})  # Of an nnx.Module.
  if path in shared:
    raise ValueError(
      f'{" and ".join(shared[path])} hold one parameter together. What {method} adds to one of '
      'them would change the other when merged: call one module in both places, or leave it out.'
    )


def _put_placeholders(module: nn.Module, factors: lowrank.Factors) -> None:
  for name, shape in zip(FACTORS, (factors.a, factors.b)):
    if not module.has_variable('params', name):
      module.put_variable('params', name, jnp.zeros(shape))


def _site(path: str, layer: Layer, factors: lowrank.Factors, shapes: tree.Params) -> Site:
  """One adapted module, given the shapes of all leaves with their layers stacked.

  Raises:
    ValueError: if the factors do not fit the weight, as where layers are stacked on another axis.
  """
  stacked = {inside(path, name): shapes[inside(path, name)].shape for name in FACTORS}
  (a, b), weight = stacked.values(), inside(path, layer.weight)
  if not lowrank.fits(a, b, shapes[weight].shape):
    raise ValueError(
      f'{weight}: factors {a} and {b} do not make an update of a weight {shapes[weight].shape}. '
      f'{lowrank.STACKED}'
    )
  return Site(
    layer=layer,
    rank=factors.a[-1],
    fan_in=factors.fan_in,
    weight=(weight, shapes[weight].shape),
    factors=stacked,
    stack=a[: len(a) - len(factors.a)],
  )


def _check_targets(
  method: str,
  targets: tuple[str, ...],
  adaptable: Mapping[str, None],
  others: Mapping[str, str],
) -> None:
  for pattern in targets:
    wrong = [path for path in others if matches(pattern, path)]
    if wrong and not any(matches(pattern, path) for path in adaptable):
      kinds = ', '.join(kind.__name__ for kind in lowrank.LAYERS)
      raise ValueError(
        f'target {pattern!r} matches {wrong[0]!r}, which is a {others[wrong[0]]}; {method} '
        f'adapts modules of the types {kinds}.'
      )
  tree.match(targets, adaptable, f'module that {method} can adapt')
