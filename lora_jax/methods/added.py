"""Parameters that a method adds inside a model's modules, found by one abstract run of its `init`.

They go where the model's own transformations put parameters: inside a scanned layer they are
stacked as the layer's own are, and no method has to know it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import tree
from lora_jax.methods.interception import Args, Context, Interceptor, Kwargs, Next, intercepted
from lora_jax.methods.models import Model, as_linen

Shape = tuple[int, ...]


class Call(NamedTuple):
  """A call of a targeted module: the module, its path, keyword arguments and output."""

  module: nn.Module
  path: str
  kwargs: Mapping[str, Any]
  output: Any


# The shapes, of one layer, of the leaves that a module gets by their paths; {} for none.
ShapesFn = Callable[[Call], Mapping[str, Shape]]


def init_shapes(
  model: Model, interceptor: Interceptor, inputs: Args, kwargs: Kwargs
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of the parameters of `model.init` under an interceptor, by path.

  Arguments that are not arrays are passed as they are.
  """
  leaves, structure = jax.tree.flatten((inputs, dict(kwargs)))
  linen = as_linen(model)
  is_array = [hasattr(x, 'shape') and hasattr(x, 'dtype') for x in leaves]

  def run(arrays: list[Any]) -> Mapping[str, Any]:
    rest = iter(arrays)
    args, kwargs = structure.unflatten(
      [next(rest) if array else x for x, array in zip(leaves, is_array)]
    )
    with intercepted(interceptor):
      return linen.init(jax.random.key(0), *args, **kwargs)

  shapes = jax.eval_shape(run, [x for x, array in zip(leaves, is_array) if array])
  return tree.flatten(nn.unbox(shapes['params']))


def find(
  method: str,
  name: str,
  shapes: ShapesFn,
  model: Model,
  inputs: Args,
  kwargs: Kwargs,
  targets: tuple[str, ...],
) -> dict[str, Shape]:
  """Shapes, with stacked layers, of the leaves added under `name` in all targeted modules, by path.

  Raises:
    ValueError: naming the method and each pattern that matches no module, with the candidates.
  """
  modules: dict[str, None] = {}

  def record(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    y = next_fun(*args, **kwargs)
    module, path = context.module, '/'.join(context.module.path)
    if context.method_name == '__call__' and path:
      modules[path] = None
      if any(re.fullmatch(pattern, path) for pattern in targets):
        wanted = shapes(Call(module, path, kwargs, y))
        if wanted and not module.has_variable('params', name):
          zeros = {path: jnp.zeros(shape) for path, shape in wanted.items()}
          module.put_variable('params', name, tree.unflatten(zeros))
    return y

  found = init_shapes(model, record, inputs, kwargs)
  tree.match(targets, modules, f'module of the model, so that {method} has no place in it')
  return {path: leaf.shape for path, leaf in found.items() if f'/{name}/' in f'/{path}'}


def draw(
  key: jax.Array,
  shapes: Mapping[str, Shape],
  initial: Callable[[str, Shape, jax.Array], jax.Array],
) -> dict[str, jax.Array]:
  """Initial values by path; each depends on the key and its own path alone."""
  return {
    path: initial(path, shape, jax.random.fold_in(key, zlib.crc32(path.encode())))
    for path, shape in shapes.items()
  }
