"""Methods that train a part of the model's own parameters: BitFit, and its last layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax

from lora_jax import stacking, tree
from lora_jax.methods.base import Method


def bitfit(*, train: str | Sequence[str] = ()) -> Method:
  """BitFit (Ben Zaken et al., 2021): every bias vector, those of LayerNorms included.

  Args:
    train: patterns of further leaves that are trained, the task head for instance.

  Raises:
    ValueError: from `init`, if the model has no bias, or a pattern matches nothing.
  """
  return _selection('bitfit', lambda leaves: (r'(.*/)?bias',), train)


def top_layers(*, layers: int, train: str | Sequence[str] = ()) -> Method:
  """The last blocks as they are (FT-Top2 in table 3, after Li and Liang, 2021).

  Args:
    layers: how many. Blocks are `layers_0`, `layers_1`, ..., of one stack.
    train: patterns of further leaves that are trained, the task head for instance.

  Raises:
    ValueError: for an option out of range; from `init`, if the model has fewer blocks, or has them
      scanned: stacked in one array, they cannot be trained in part.
  """
  if not isinstance(layers, int) or layers < 1:
    raise ValueError(f'top_layers: layers={layers!r}: a number of blocks from 1 up')

  def patterns(leaves: Sequence[str]) -> tuple[str, ...]:
    numbers = {i for path in leaves if (i := stacking.layer_index(path)) is not None}
    if not numbers:
      raise ValueError(
        f'top_layers: the model has no numbered blocks ({stacking.looped_name(0)}, ...). Scanned '
        'ones are one array, of which no part can be trained: loop them (scan=False).'
      )
    if layers > len(numbers):
      raise ValueError(f'top_layers: layers={layers}, but the model has {len(numbers)}')
    return tuple(map(stacking.leaf_pattern, sorted(numbers)[-layers:]))

  return _selection('top_layers', patterns, train)


def _selection(
  name: str, patterns: Callable[[Sequence[str]], tuple[str, ...]], train: str | Sequence[str]
) -> Method:
  train = tree.as_patterns(train)

  def init(
    key: jax.Array, model: nn.Module, params: tree.Params, *inputs: Any, **kwargs: Any
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    del key, model, inputs, kwargs
    params = nn.unbox(params)
    paths = tree.paths(params)
    chosen = patterns(paths)
    tree.match(chosen, paths, f'parameter that {name} trains')
    return tree.split(params, (*chosen, *train))

  shown = (r'(.*/)?bias',) if name == 'bitfit' else (stacking.leaf_pattern(),)
  return Method(init=init, merge=tree.join, patterns=(*shown, *train))
