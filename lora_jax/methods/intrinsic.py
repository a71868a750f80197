"""All parameters moved in a random subspace: theta = theta0 + P x, of which only x [d] is trained.

The least d that reaches 90 % of full fine-tuning's score is a task's intrinsic dimension (Li et
al., 2018, arXiv 1804.08838). Aghajanyan et al. (2020, arXiv 2012.13255) found a few hundred for
pretrained models, from which the LoRA paper concluded that an update may be of low rank (section
1). As in their code, P is a Fastfood transform of its own for each leaf, padded to a power of two,
and x is common to all leaves; a leaf of fewer numbers than x is moved by as many of x as it has.

What a run stores are the d numbers; P is a hash of the option `subspace` and of the leaf's path.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import errors, quantization, stacking, tree
from lora_jax.methods import fastfood
from lora_jax.methods.base import Method, Params, Tree
from lora_jax.methods.models import Model
from lora_jax.methods.options import recorded

VARIANTS = ('did', 'said')
HEADS = ('subspace', 'trained')
OWN = 'intrinsic'  # The module that holds the method's leaves.
COORDINATES, SCALES = f'{OWN}/coordinates', f'{OWN}/scales'
DIMENSION, SUBSPACE = f'{OWN}/dimension', f'{OWN}/subspace'  # Of the members of a sweep.


@recorded
def intrinsic(
  *,
  dimension: int,
  variant: str = 'did',
  subspace: int = 0,
  head: str = 'subspace',
  train: str | Sequence[str] = (),
) -> Method:
  """Fine-tuning of all parameters in a random subspace of few dimensions.

  Scanned layers are moved as looped ones are: each has the map of its own looped path. The model
  computes with theta0 + P x, made once for each call in float32 and cast to the base's dtype; with
  a base in float32 nothing is lost.

  Args:
    dimension: d, how many numbers are trained, without those of `train`.
    variant: `did`, x alone; `said`, with a learned factor on the update of each block and one for
      the leaves outside the blocks. These factors count as dimensions (d - m and m numbers).
    subspace: seed of P, apart from the run's own.
    head: of the leaves of `train`: `subspace`, P moves them as all others, from where they begin,
      which is saved with the run; `trained`, they are trained as they are.
    train: patterns of the leaves that do not come from the base, such as the task head.

  Raises:
    ValueError: for an option out of its range; from `init`, if a pattern matches nothing, if
      `said` leaves no dimension for x, or if the base has leaves of whole numbers.
  """
  if not isinstance(dimension, int) or dimension < 1:
    raise ValueError(f'intrinsic: dimension={dimension!r}: expected a number from 1 up')
  if variant not in VARIANTS:
    raise ValueError(f'intrinsic: variant={variant!r}. {errors.nearest(variant, VARIANTS)}')
  if head not in HEADS:
    raise ValueError(f'intrinsic: head={head!r}. {errors.nearest(head, HEADS)}')
  if not isinstance(subspace, int) or not 0 <= subspace < 2**32:
    raise ValueError(f'intrinsic: subspace={subspace!r}: expected a seed from 0 to 2**32 - 1')
  train = tree.as_patterns(train)
  apart = train if head == 'trained' else ()
  is_of = lambda patterns, path: any(re.fullmatch(pattern, path) for pattern in patterns)
  is_fixed = lambda path: head == 'subspace' and is_of(train, path)

  def init(
    key: jax.Array, model: Model, params: Params, *inputs: object, **kwargs: object
  ) -> tuple[Tree, Tree]:
    del key, model, inputs, kwargs
    frozen, trained = tree.split(nn.unbox(params), train)
    leaves = tree.flatten(frozen if apart else tree.join(frozen, trained))
    _check_movable(leaves)
    n_scales = _n_blocks(leaves) + 1 if variant == 'said' else 0
    if dimension <= n_scales:
      raise ValueError(
        f'intrinsic: dimension={dimension} leaves none for the subspace: said counts {n_scales} '
        'factors of layers. Raise it.'
      )
    own = {COORDINATES: jnp.zeros(dimension - n_scales, jnp.float32)}
    if n_scales:
      own[SCALES] = jnp.ones(n_scales, jnp.float32)
    return frozen, tree.join(trained, tree.unflatten(own))

  def scales(model: Model, *inputs: object, **kwargs: object) -> Tree:
    del model, inputs, kwargs
    return tree.unflatten({DIMENSION: np.int32(dimension), SUBSPACE: np.uint32(subspace)})

  def merge(frozen: Params, trainable: Params) -> Tree:
    leaves = tree.flatten(tree.join(frozen, trainable))
    kept = {path: jax.lax.stop_gradient(x) for path, x in leaves.items() if is_fixed(path)}
    return _moved(subspace, leaves | kept, lambda path: not is_of(apart, path))

  return Method(
    init=init,
    merge=merge,
    runs_merged=True,
    patterns=(f'{OWN}/.*', *apart),
    # Members of a sweep share P: each has the first columns of it.
    program=(OWN, variant, head, train),
    scales=scales,
    fixed=is_fixed,
  )


def _check_movable(leaves: tree.Leaves) -> None:
  """Raises a ValueError that names the leaves to which nothing can be added."""
  if coded := list(quantization.kernels(leaves)):
    raise ValueError(
      f'intrinsic moves all weights, and codes cannot be moved: {errors.listed(coded)}. Leave '
      'the base as it is (model.quantize=none).'
    )
  if other := [p for p, x in leaves.items() if not jnp.issubdtype(x.dtype, jnp.floating)]:
    raise ValueError(f'intrinsic moves floating-point parameters, not {errors.listed(other)}')


def _moved(subspace: int, leaves: tree.Leaves, is_moved: Callable[[str], bool]) -> Tree:
  """The model's parameters, of its leaves and the method's."""
  x = jnp.asarray(leaves.pop(COORDINATES))
  factors = jnp.asarray(leaves.pop(SCALES)) if SCALES in leaves else None
  seed = jnp.asarray(leaves.pop(SUBSPACE, np.uint32(subspace)), jnp.uint32)
  if (dimension := leaves.pop(DIMENSION, None)) is not None:
    own = dimension - (0 if factors is None else len(factors))
    x = jnp.where(jnp.arange(len(x)) < own, x, 0)
  moved = {path: leaf for path, leaf in leaves.items() if is_moved(path)}
  for path, update in _updates(x, factors, seed, moved).items():
    leaf = leaves[path]
    leaves[path] = (leaf.astype(jnp.float32) + update.reshape(leaf.shape)).astype(leaf.dtype)
  return tree.unflatten(leaves)


def _updates(
  x: jax.Array, factors: jax.Array | None, seed: jax.Array, leaves: Params
) -> dict[str, jax.Array]:
  """P x of each leaf, [layers, size]; one map for all leaves of a size makes a short program."""
  parts: dict[int, list[tuple[str, str]]] = {}  # By size: the leaf's path, and a layer's own.
  for path, leaf in leaves.items():
    layers = stacking.looped_paths(path, leaf.shape[0] if leaf.ndim else 1)
    parts.setdefault(leaf.size // len(layers), []).extend((path, own) for own, _ in layers)
  n_blocks, updates = _n_blocks(leaves), {}
  for size, every in parts.items():
    hashes = np.array([zlib.crc32(own.encode()) for _, own in every], np.uint32)
    update = jax.vmap(lambda one: fastfood.project(x, one, size))(fastfood.mix(seed) ^ hashes)
    if factors is not None:
      blocks = [stacking.layer_index(own) for _, own in every]
      update *= factors[np.array([n_blocks if i is None else i for i in blocks])][:, None]
    paths = [path for path, _ in every]
    for path in dict.fromkeys(paths):
      first = paths.index(path)
      updates[path] = update[first : first + paths.count(path)]
  return updates


def _n_blocks(leaves: Params) -> int:
  """The number of the model's blocks, looped or scanned."""
  looped = (stacking.layer_index(path) for path in leaves)
  scanned = (x.shape[0] for path, x in leaves.items() if stacking.is_scanned_path(path))
  return max([0, *(index + 1 for index in looped if index is not None), *scanned])
