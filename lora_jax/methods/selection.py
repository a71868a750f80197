"""Methods that train a part of the model's own parameters: BitFit, and its last layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

from lora_jax import stacking, tree
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.models import Model
from lora_jax.methods.options import recorded

BIAS, BLOCKS = r'(.*/)?bias', stacking.leaf_pattern()


@recorded
def bitfit(*, train: str | Sequence[str] = ()) -> Method:
  """BitFit (Ben Zaken et al., 2021): every bias vector, those of LayerNorms included.

  Args:
    train: patterns of further leaves that are trained, the task head for instance.

  Raises:
    ValueError: from `init`, if the model has no bias, or a pattern matches nothing.
  """
  train = tree.as_patterns(train)
  return _selection(('bitfit', train), BIAS, lambda leaves: (BIAS,), train)


@recorded
def top_layers(*, layers: int, train: str | Sequence[str] = ()) -> Method:
  """Fine-tuning of the last blocks alone (FT-Top2 in table 3, after Li and Liang, 2021).

  Args:
    layers: how many blocks. They are named `layers_0`, `layers_1`, ..., and form one stack.
    train: patterns of further leaves that are trained, the task head for instance.

  Raises:
    ValueError: for an option out of range; from `init`, if the model has fewer blocks, or if they
      are scanned: of blocks that are stacked in one array no part can be trained.
  """
  if not isinstance(layers, int) or layers < 1:
    raise ValueError(f'top_layers: layers={layers!r}: expected a number of blocks from 1 up')

  def patterns(leaves: Sequence[str]) -> tuple[str, ...]:
    numbers = {i for path in leaves if (i := stacking.layer_index(path)) is not None}
    if not numbers:
      raise ValueError(
        f'top_layers: the model has no numbered blocks ({stacking.looped_name(0)}, ...). Scanned '
        'ones are one array, of which no part can be trained: load the model looped (scan=False).'
      )
    if layers > len(numbers):
      raise ValueError(f'top_layers: layers={layers}, but the model has {len(numbers)}')
    return tuple(map(stacking.leaf_pattern, sorted(numbers)[-layers:]))

  train = tree.as_patterns(train)
  return _selection(('top_layers', layers, train), BLOCKS, patterns, train)


def _selection(
  program: tuple[object, ...],
  shown: str,
  patterns: Callable[[Sequence[str]], tuple[str, ...]],
  train: tuple[str, ...],
) -> Method:
  """A method that trains the leaves of `patterns(paths of all leaves)`, summarized as `shown`."""

  def init(
    key: jax.Array, model: Model, params: Params, *inputs: object, **kwargs: object
  ) -> tuple[Tree, Tree]:
    del key, model, inputs, kwargs
    params = nn.unbox(params)
    paths = tree.paths(params)
    chosen = patterns(paths)
    tree.match(chosen, paths, f'parameter that {program[0]} trains')
    return tree.split(params, (*chosen, *train))

  return Method(init=init, merge=tree.join, patterns=(shown, *train), program=program)
