"""Attention by a kernel of the device: cuDNN's on NVIDIA GPUs, a Pallas kernel on TPUs.

Which one computes a call is decided while the program is traced (`choose`), by the shapes and by
the devices that it is made for (`Target`): those of `use`, otherwise JAX's default device.

Packed rows go to cuDNN with a mask, which JAX hands on as a bias [R, 1, T, L]. cuDNN also has a
form without a mask for them (offsets and lengths of the segments, from compute capability 9.0), but
`jax.nn.dot_product_attention` has no argument for these; and whether rows hold one segment each, so
that lengths would do, is not known when a program is traced.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.typing import DTypeLike

P = ParamSpec('P')
T = TypeVar('T')
Saved = tuple[object, ...]
Gradient = Callable[[jax.Array], tuple[jax.Array, ...]]  # A pytree of what it keeps.
Implementation = Literal['auto', 'xla', 'cudnn', 'pallas']
IMPLEMENTATIONS = ('auto', 'xla', 'cudnn', 'pallas')
# Fewer queries beside a row's keys are less than a tile of a kernel, and little work for XLA.
FEW = 64
DTYPES = {'cudnn': ('bfloat16', 'float16'), 'pallas': ('bfloat16',)}
TILES = (512, 256, 128)  # Sides of a Pallas kernel's tiles: the largest that divides a row.


class Target(NamedTuple):
  """The devices that a program is made for.

  Attributes:
    platform: JAX's name (`cpu`, `gpu`, `tpu`).
    capability: the compute capability of an NVIDIA GPU, (0, 0) of any other device.
    mesh: the mesh of a program for several devices; None where there is one, or none is known.
    rows, heads: the axes of the mesh that split the rows of a batch, and the heads.
  """

  platform: str
  capability: tuple[int, int] = (0, 0)
  mesh: Mesh | None = None
  rows: tuple[str, ...] = ()
  heads: str | None = None

  @classmethod
  def of(cls, mesh: Mesh, rows: tuple[str, ...], heads: str) -> Target:
    """The target that the devices of a mesh are."""
    device = mesh.devices.flat[0]
    return cls(device.platform, _capability(device), mesh if mesh.size > 1 else None, rows, heads)


class Call(NamedTuple):
  """What the choice depends on.

  Attributes:
    query, key: shapes [R, T, heads, width of a head] and [R, L, heads, width of a head].
    dtype: of queries, keys and values.
    dropout: whether weights are dropped.
    whole: whether all columns of a row are asked, in order.
  """

  query: tuple[int, ...]
  key: tuple[int, ...]
  dtype: jnp.dtype
  dropout: bool
  whole: bool


# Part of the key of JAX's caches: what was traced for one target is not used for another.
_target = jax.make_user_context(None)


@contextlib.contextmanager
def use(target: Target) -> Iterator[None]:
  """A context within which programs are traced for a target."""
  with _target(target):
    yield


def bound(apply: Callable[P, T], target: Target) -> Callable[P, T]:
  """`apply`, traced for a target wherever it is called."""

  @functools.wraps(apply)
  def within(*args: P.args, **kwargs: P.kwargs) -> T:
    with use(target):
      return apply(*args, **kwargs)

  return within


def current() -> Target:
  """The target of the program that is being traced."""
  if _target.value is not None:
    return _target.value
  device = getattr(jax.config, 'jax_default_device', None) or jax.devices()[0]
  if isinstance(device, str):
    device = jax.devices(device)[0]
  return Target(device.platform, _capability(device))


def choose(implementation: Implementation, call: Call) -> str:
  """The name of what computes a call: `xla`, `cudnn` or `pallas`.

  Raises:
    ValueError: if a kernel was asked for by name and cannot compute the call; for a choice of
      columns `xla` takes its place.
  """
  if implementation == 'xla' or (not call.whole and call.query[1] < FEW):
    return 'xla'
  target = current()
  if implementation == 'auto':
    return next((name for name, refusal in REFUSALS.items() if not refusal(target, call)), 'xla')
  refusal = REFUSALS[implementation](target, call)
  if refusal and call.whole:
    raise ValueError(
      f"attention={implementation!r} {refusal}. With attention='auto' XLA takes its place where "
      'it cannot be had.'
    )
  return 'xla' if refusal else implementation


def dtype_refusal(implementation: Implementation, dtype: DTypeLike) -> str:
  """Why a kernel does not compute in a dtype, '' if it does, or if XLA may take its place."""
  known, found = DTYPES.get(implementation), jnp.dtype(dtype).name
  if known is None or found in known:
    return ''
  return f'computes in {" or ".join(known)}, but dtype is {found}'


def cudnn_refusal(target: Target, call: Call) -> str:
  """Why cuDNN cannot compute a call, '' if it can: the conditions of JAX and of its kernels."""
  width = call.query[3]
  widest = 256 if target.capability >= (9, 0) else 128
  if target.platform not in ('gpu', 'cuda') or target.capability < (8, 0):
    major, minor = target.capability
    found = f'an NVIDIA GPU of {major}.{minor}' if major else target.platform
    return f'needs an NVIDIA GPU of compute capability 8.0 or more; the program is for {found}'
  if refusal := dtype_refusal('cudnn', call.dtype):
    return refusal
  if call.dropout:
    return 'has no dropout of attention weights in JAX: set attention_dropout to 0'
  if width % 8 or width > widest:
    return f'takes heads of a multiple of 8 up to {widest}, but theirs is {width}'
  if call.query[1] % 2 or call.key[1] % 2:  # JAX lets whole rows pass, and cuDNN then fails.
    return (
      f'takes even numbers of columns, but there are {call.query[1]} queries of {call.key[1]} '
      'columns'
    )
  return _split_refusal(target, call)


def pallas_refusal(target: Target, call: Call) -> str:
  """Why the Pallas kernel cannot compute a call, '' if it can."""
  _, length, _, width = call.query
  if target.platform != 'tpu':
    return f'needs a TPU; the program is for {target.platform}'
  if refusal := dtype_refusal('pallas', call.dtype):
    return refusal
  if call.dropout:
    return 'has no dropout of attention weights: set attention_dropout to 0'
  if not call.whole:
    return 'takes no choice of columns'
  if length % TILES[-1] or (width > 128 and width % 128):
    return (
      f'takes rows of a multiple of {TILES[-1]} tokens, and heads of at most 128 or a multiple of '
      f'it, but there are {length} tokens and heads of {width}'
    )
  if _target.value is None and jax.device_count() > 1:
    return 'has to know how a program for several devices is split, see fused_attention.use'
  return _split_refusal(target, call)


def _split_refusal(target: Target, call: Call) -> str:
  """Why the rows and heads of a call cannot be split over the mesh, '' if they can."""
  if target.mesh is None:
    return ''
  rows, _, heads, _ = call.query
  shares, parts = (_size(target.mesh, axes) for axes in (target.rows, [target.heads]))
  if rows % shares or heads % parts:
    return f'computes whole rows and heads: {rows} x {heads} do not split into {shares} x {parts}'
  return ''


# In the order in which `auto` tries them.
REFUSALS: dict[str, Callable[[Target, Call], str]] = {
  'cudnn': cudnn_refusal,
  'pallas': pallas_refusal,
}


def cudnn(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array | None,
  mask: jax.Array | None,
  *,
  scale: float | None,
  causal: bool,
) -> jax.Array:
  """Attention by cuDNN, [R, T, heads, width of a head]; also under `vmap`, in both passes.

  Args:
    query, key, value: [R, T or L, heads, width of a head], bfloat16 or float16.
    bias: [R, heads, T, L]; it is rounded to the dtype of the queries.
    mask: bool [R, 1, T, L].
    scale, causal: as for `attention.attention`.
  """

  def compute(mask: jax.Array | None, *operands: jax.Array) -> jax.Array:
    # A mask stays one until JAX has it: later versions then leave out its gradient as a bias.
    return jax.nn.dot_product_attention(
      *operands, mask=mask, scale=scale, is_causal=causal, implementation='cudnn'
    )

  target = current()
  call, by_heads = by_rows(compute), PartitionSpec(target.rows, None, target.heads)
  operands, splits = [query, key, value], [by_heads] * 3
  if bias is not None:
    operands.append(bias.astype(query.dtype))
    splits.append(PartitionSpec(target.rows, target.heads))
  return _split(call, target, (PartitionSpec(target.rows), *splits), by_heads)(mask, *operands)


def pallas(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array | None,
  segment_ids: jax.Array | None,
  *,
  scale: float | None,
  causal: bool,
) -> jax.Array:
  """Attention by the Pallas kernel for TPUs, [R, L, heads, width of a head].

  Args:
    query, key, value: [R, L, heads, width of a head].
    bias: [R, heads, L, L].
    segment_ids: [R, L].
    scale, causal: as for `attention.attention`.
  """
  from jax.experimental.pallas.ops.tpu import flash_attention as kernel

  factor = float(query.shape[-1] ** -0.5 if scale is None else scale)
  side = next(side for side in TILES if query.shape[1] % side == 0)
  names = [field for field in kernel.BlockSizes.__dataclass_fields__ if field != 'block_b']
  sizes = kernel.BlockSizes(block_b=1, **dict.fromkeys(names, side))

  def compute(
    heads_first: Sequence[jax.Array], bias: jax.Array | None, segments: jax.Array | None
  ) -> jax.Array:
    return kernel.flash_attention(
      *heads_first,
      None if bias is None else bias / factor,  # The kernel scales it with the products.
      None if segments is None else kernel.SegmentIds(segments, segments),
      causal=causal,
      sm_scale=factor,
      block_sizes=sizes,
    )

  target = current()
  by_heads = PartitionSpec(target.rows, target.heads)
  splits = (by_heads, by_heads, PartitionSpec(target.rows))
  heads_first = tuple(x.swapaxes(1, 2) for x in (query, key, value))
  y = _split(compute, target, splits, by_heads)(heads_first, bias, segment_ids)
  return y.swapaxes(1, 2)


def _split(
  compute: Callable[..., jax.Array],
  target: Target,
  splits: tuple[PartitionSpec, ...],
  out: PartitionSpec,
) -> Callable[..., jax.Array]:
  """`compute`, on each device of the target's mesh for its part: no compiler splits a kernel."""
  if target.mesh is None:
    return compute
  return jax.shard_map(compute, mesh=target.mesh, in_specs=splits, out_specs=out, check_vma=False)


def by_rows(compute: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """`compute(mask, *operands)`, whose `vmap` and whose gradient's `vmap` are calls with more rows.

  JAX's own rule for mapped cuDNN calls fails where only some operands are mapped (jax 0.10.2, and
  later ones for masks). The function has a gradient by its operands, none by its mask. The forward
  pass keeps what `compute` keeps for its backward pass, all of which has to have rows as axis 0.
  """
  forward = _folded(lambda mask, *operands: compute(mask, *operands))

  @_folded
  def kept(mask: jax.Array | None, *operands: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    out, vjp, places = _vjp(compute, mask, operands)
    leaves = jax.tree.leaves(vjp)
    return out, [leaf for leaf, place in zip(leaves, places) if place is None]

  @_folded
  def backward(
    mask: jax.Array | None,
    operands: tuple[jax.Array, ...],
    out: jax.Array,
    residuals: list[jax.Array],
    g: jax.Array,
  ) -> tuple[jax.Array, ...]:
    found = []

    def abstract(*operands: jax.Array) -> Gradient:
      _, vjp, places = _vjp(compute, mask, operands)
      found.extend(places)
      return vjp

    structure = jax.tree.structure(jax.eval_shape(abstract, *operands))
    known, rest = (*operands, out), iter(residuals)
    leaves = [next(rest) if place is None else known[place] for place in found]
    return jax.tree.unflatten(structure, leaves)(g)

  @jax.custom_vjp
  def call(mask: jax.Array | None, *operands: jax.Array) -> jax.Array:
    return forward(mask, *operands)

  def call_forward(mask: jax.Array | None, *operands: jax.Array) -> tuple[jax.Array, Saved]:
    out, residuals = kept(mask, *operands)
    return out, (mask, operands, out, residuals)

  call.defvjp(call_forward, lambda saved, g: (None, *backward(*saved, g)))
  return call


def _vjp(
  compute: Callable[..., jax.Array], mask: jax.Array | None, operands: Sequence[jax.Array]
) -> tuple[jax.Array, Gradient, list[int | None]]:
  """Result, `jax.vjp`'s function, and which of the operands and the result its leaves are."""
  out, vjp = jax.vjp(functools.partial(compute, mask), *operands)
  known = (*operands, out)
  same = lambda leaf: next((i for i, x in enumerate(known) if x is leaf), None)
  return out, vjp, [same(leaf) for leaf in jax.tree.leaves(vjp)]


def _folded(function: Callable[..., T]) -> Callable[..., T]:
  """A function of arrays [R, ...] whose `vmap` is one call with the rows of all members.

  What is not mapped is repeated for each member.
  """
  wrapped = jax.custom_batching.custom_vmap(function)

  def rule(size: int, mapped: Sequence[object], *args: object) -> tuple[T, T]:
    def rows(x: jax.Array, has_axis: bool) -> jax.Array:
      x = x if has_axis else jnp.broadcast_to(x[None], (size, *x.shape))
      return x.reshape(size * x.shape[1], *x.shape[2:])

    out = wrapped(*jax.tree.map(rows, args, tuple(mapped)))
    split = lambda x: x.reshape(size, x.shape[0] // size, *x.shape[1:])
    return jax.tree.map(split, out), jax.tree.map(lambda x: True, out)

  wrapped.def_vmap(rule)
  return wrapped


def _capability(device: jax.Device) -> tuple[int, int]:
  """The compute capability of an NVIDIA GPU; (0, 0) of any other device."""
  found = re.fullmatch(r'(\d+)\.(\d+)', str(getattr(device, 'compute_capability', '')))
  return (int(found[1]), int(found[2])) if found else (0, 0)


def _size(mesh: Mesh, axes: Sequence[str | None]) -> int:
  return math.prod(mesh.shape[axis] for axis in axes if axis is not None)
