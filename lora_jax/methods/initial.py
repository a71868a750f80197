"""Where the leaves of LoRA start: one factor random and the other zero, or parts of the weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping

import jax
import jax.numpy as jnp

from lora_jax import errors, quantization, tree
from lora_jax.methods import added, dora, lowrank, sites
from lora_jax.methods.lowrank import FACTORS, MAGNITUDE, START

OF_WEIGHT = ('pissa', 'pissa_fast', 'olora')
OVERSAMPLED, ITERATIONS = 8, 4  # Of the randomized decomposition.


def check_options(init: str, bias: str, dora: bool) -> None:
  """Raises a ValueError for an option of `lora` that is unknown, or two that do not fit."""
  for name, value, allowed in (
    ('bias', bias, ('none', 'adapted', 'all')),
    ('init', init, ('uniform', 'normal', *OF_WEIGHT)),
  ):
    if value not in allowed:
      raise ValueError(f'lora: {name}={value!r}: choose one of {", ".join(allowed)}')
  if dora and init in OF_WEIGHT:
    raise ValueError(f'lora: dora=True with init={init!r} is not computed: choose one of them')


def draw(
  key: jax.Array, found: Mapping[str, sites.Site], distribution: str
) -> dict[str, jax.Array]:
  """Factors by path, float32, one of each pair random and the other zero, so the update is zero.

  Each depends on the key and its own path alone: a further target changes no other factor.
  """

  def initial(path: str, shape: lowrank.Shape, key: jax.Array) -> jax.Array:
    module, _, name = path.rpartition('/')
    site = found[module]
    if name == ('lora_a' if site.layer.transposed else 'lora_b'):
      return jnp.zeros(shape, jnp.float32)
    if site.layer.transposed:
      return jax.random.normal(key, shape, jnp.float32)
    if distribution == 'normal':
      return 0.02 * jax.random.normal(key, shape, jnp.float32)
    # Kaiming-uniform with a = sqrt(5), as in torch.nn.Linear: the bound is 1 / sqrt(fan_in).
    bound = 1 / math.sqrt(site.fan_in)
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

  shapes = {path: shape for site in found.values() for path, shape in site.factors.items()}
  return added.draw(key, shapes, initial)


def starts_at_zero(path: str, weights: Container[str]) -> bool:
  """Whether a leaf is the factor of its pair that starts at zero, `lora_a` in an embedding.

  Args:
    path: the leaf's.
    weights: paths of all leaves, the frozen ones among them.
  """
  module, _, name = path.rpartition('/')
  return name == FACTORS[0 if sites.inside(module, 'embedding') in weights else 1]


def of_weight(
  kind: str,
  found: Mapping[str, sites.Site],
  leaves: tree.Params,
  scale: Callable[[str, int], float],
) -> dict[str, jax.Array]:
  """Factors that start as a part of their weight, and the same ones to be subtracted, by path.

  `pissa` (arXiv 2404.02948) takes the largest singular values, W = U S V: a = U_r sqrt(S_r / s) and
  b = sqrt(S_r / s) V_r, s being the scale; `pissa_fast` computes them by `largest`. `olora`
  (arXiv 2406.01775) takes the first columns of Q in W^T = Q R: b = Q_r^T, a = R_r^T. Both factors
  are stored with the run: done again elsewhere, a decomposition is another one.

  Raises:
    ValueError: for a layer that is not dense, or a rank above the least side of its weight.
  """
  factors: dict[str, jax.Array] = {}
  check_matrices(f'lora: init={kind!r}', found)
  for path, site in found.items():
    weight, rank, stack = leaves[site.weight[0]].astype(jnp.float32), site.rank, site.stack
    matrix = jnp.asarray(weight).reshape(*stack, site.fan_in, -1)
    if rank > min(matrix.shape[-2:]):
      raise ValueError(
        f'lora: init={kind!r}: {path!r} is {matrix.shape}, its rank {rank} is larger'
      )
    if kind != 'olora':
      fast = kind == 'pissa_fast'
      u, values, v = largest(matrix, rank) if fast else jnp.linalg.svd(matrix, full_matrices=False)
      roots = jnp.sqrt(values[..., :rank] / scale(path, rank))
      a, b = u[..., :rank] * roots[..., None, :], roots[..., None] * v[..., :rank, :]
    else:
      q, r = jnp.linalg.qr(jnp.swapaxes(matrix, -1, -2))
      a, b = jnp.swapaxes(r[..., :rank, :], -1, -2), jnp.swapaxes(q[..., :rank], -1, -2)
    for names in (FACTORS, START):  # Two arrays: a step gives up its own.
      for name, like, x in zip(names, FACTORS, (a, b)):
        shape = site.factors[sites.inside(path, like)]
        factors[sites.inside(path, name)] = jnp.array(x.reshape(shape), copy=True)
  return factors


def largest(matrix: jax.Array, rank: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The largest singular values of matrices [..., d, k] with their vectors, u, s and v, randomized.

  The range of the matrix is found by products with a few random vectors more than the rank (Halko
  et al., arXiv 0909.4061, algorithm 4.4), always the same ones. PiSSA's update starts at zero all
  the same: what it starts with is what is subtracted. Of normal matrices, whose values hardly fall,
  the part of rank 8 misses at most 5 % more in the spectral norm than the exact one.

  Returns:
    u [..., d, n], s [..., n] and v [..., n, k], where n = min(rank + OVERSAMPLED, d, k).
  """
  size = min(rank + OVERSAMPLED, *matrix.shape[-2:])
  random = jax.random.normal(jax.random.key(0), (matrix.shape[-1], size), matrix.dtype)
  orthogonal = lambda x: jnp.linalg.qr(x)[0]
  transposed = jnp.swapaxes(matrix, -1, -2)
  q = orthogonal(matrix @ random)
  for _ in range(ITERATIONS):
    q = orthogonal(matrix @ orthogonal(transposed @ q))
  u, values, v = jnp.linalg.svd(jnp.swapaxes(q, -1, -2) @ matrix, full_matrices=False)
  return q @ u, values, v


def magnitudes(found: Mapping[str, sites.Site], leaves: tree.Params) -> dict[str, jax.Array]:
  """The norms of the columns of each weight, as DoRA starts, by path.

  Raises:
    ValueError: for a layer that is not dense, or a weight that is quantized.
  """
  check_matrices('lora: dora=True', found)
  weights = [site.weight[0] for site in found.values()]
  if coded := [path for path in weights if isinstance(leaves[path], quantization.Kernel)]:
    raise ValueError(
      f'lora: dora=True is not computed for quantized weights ({errors.listed(coded)}): it would '
      'take the lengths of their columns, so each whole weight, at each step. Leave the base as it '
      'is (model.quantize=none), or dora=False.'
    )
  n_out = lambda path, site: len(site.factors[sites.inside(path, 'lora_b')]) - len(site.stack) - 1
  return {
    sites.inside(path, MAGNITUDE): dora.column_norms(
      leaves[site.weight[0]], len(site.stack), n_out(path, site)
    )
    for path, site in found.items()
  }


def check_kinds(
  option: str, found: Mapping[str, sites.Site], fits: Callable[[lowrank.Layer], bool]
) -> None:
  """Raises a ValueError that names the adapted modules of a kind that an option does not fit."""
  kind = lambda site: next(k.__name__ for k, x in lowrank.LAYERS.items() if x is site.layer)
  others = [f'{path} ({kind(site)})' for path, site in found.items() if not fits(site.layer)]
  if others:
    fitting = [kind.__name__ for kind, layer in lowrank.LAYERS.items() if fits(layer)]
    raise ValueError(
      f'{option} is not computed for {errors.listed(others)}, only for layers of the types '
      f'{", ".join(fitting)}. Leave them out of the targets.'
    )


def check_matrices(option: str, found: Mapping[str, sites.Site]) -> None:
  """Raises a ValueError that names an adapted module whose weight is not one matrix."""
  check_kinds(option, found, lambda layer: layer.matrix)
  for path, site in found.items():
    shape = site.weight[1]
    ends = sum(len(x) for x in site.factors.values()) - 2  # With the stack in both.
    if ends - len(shape) != len(site.stack) or shape[: len(site.stack)] != site.stack:
      raise ValueError(
        f'{option}: the weight of {path!r} {shape} is not one matrix: the layer has a batch, '
        'or layers are stacked on another axis than 0.'
      )
