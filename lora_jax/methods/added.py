"""Parameters that a method adds inside a model's modules, found by one abstract run of its `init`.

They go where the model's own transformations put parameters: inside a scanned layer they are
stacked, as the layer's are, and no method has to know it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import tree

Interceptor = Callable[[Any, Any, Any, nn.module.InterceptorContext], Any]
# The shapes [of one layer] that a module gets by their names, given its output; {} for none.
Shapes = Callable[[nn.module.InterceptorContext, str, Any, Any, Any], Mapping[str, Any]]


def init_shapes(
  model: nn.Module, interceptor: Interceptor, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of the parameters of `model.init` under an interceptor, by path.

  Arguments that are no arrays are passed as they are.
  """
  leaves, structure = jax.tree.flatten((inputs, dict(kwargs)))
  is_array = [hasattr(x, 'shape') and hasattr(x, 'dtype') for x in leaves]

  def run(arrays: list[Any]) -> dict[str, Any]:
    rest = iter(arrays)
    args, kwargs = structure.unflatten(
      [next(rest) if array else x for x, array in zip(leaves, is_array)]
    )
    with nn.intercept_methods(interceptor):
      return model.init(jax.random.key(0), *args, **kwargs)

  shapes = jax.eval_shape(run, [x for x, array in zip(leaves, is_array) if array])
  return tree.flatten(nn.unbox(shapes['params']))


def find(
  method: str,
  name: str,
  shapes: Shapes,
  model: nn.Module,
  inputs: tuple[Any, ...],
  kwargs: Mapping[str, Any],
  targets: tuple[str, ...],
) -> dict[str, tuple[int, ...]]:
  """Shapes of what is added under `name` in each module that a target matches, stacked, by path.

  Raises:
    ValueError: naming the method and each pattern that matches no module, with the candidates.
  """
  modules: dict[str, None] = {}

  def record(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    y = next_fun(*args, **kwargs)
    path = '/'.join(context.module.path)
    if context.method_name == '__call__' and path:
      modules[path] = None
      if any(re.fullmatch(pattern, path) for pattern in targets):
        wanted = shapes(context, path, y, args, kwargs)
        if wanted and not context.module.has_variable('params', name):
          zeros = {path: jnp.zeros(shape) for path, shape in wanted.items()}
          context.module.put_variable('params', name, tree.unflatten(zeros))
    return y

  found = init_shapes(model, record, inputs, kwargs)
  tree.match(targets, modules, f'module of the model, so that {method} has no place in it')
  return {path: leaf.shape for path, leaf in found.items() if f'/{name}/' in f'/{path}'}


def draw(
  key: jax.Array,
  shapes: Mapping[str, tuple[int, ...]],
  initial: Callable[[str, tuple[int, ...], jax.Array], jax.Array],
) -> dict[str, jax.Array]:
  """Initial values by path; each depends on the key and its own path alone."""
  return {
    path: initial(path, shape, jax.random.fold_in(key, zlib.crc32(path.encode())))
    for path, shape in shapes.items()
  }
