"""Arrays read from files straight to where they lie: each device is sent its part and no other.

One part is in host memory at a time, in the dtype that it is for. A file is mapped, and what has
been read of it is given back block by block, so that its pages do not add up either.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from lora_jax import tree

# Of a tree of shapes, where each array lies: a tree of shardings (None: the default device).
Place = Callable[[dict[str, Any]], Mapping[str, Any]]
Index = tuple[slice, ...]
BLOCK = 4 << 20  # Bytes of a file that are read between two times that its pages are given back.
ALIGNMENT = 64  # Bytes. On the CPU an array that is aligned so becomes the device's without a copy.


def places(shapes: Mapping[str, Any], place: Place | None) -> dict[str, Sharding | None]:
  """The sharding of each array by path, the default device for all without `place`.

  Args:
    shapes: `jax.ShapeDtypeStruct`s by path.
    place: takes them as a nested dict.

  Raises:
    ValueError: naming all arrays that `place` has no sharding for, or one that cannot split them.
  """
  if place is None:
    return dict.fromkeys(shapes)
  found, problems = tree.flatten(place(tree.unflatten(shapes))), []
  for path, leaf in shapes.items():
    sharding = found.get(path, leaf)
    if sharding is None:
      continue
    if not isinstance(sharding, Sharding):
      given = 'nothing' if path not in found else repr(sharding)
      problems.append(f'{path}: place gave {given}, expected a jax.sharding.Sharding')
      continue
    try:
      sharding.shard_shape(leaf.shape)
    except ValueError as error:
      problems.append(f'{path}: {sharding} does not fit {leaf.shape}: {error}')
  if problems:
    raise ValueError('\n'.join(problems))
  return {path: found[path] for path in shapes}


def assemble(
  leaf: jax.ShapeDtypeStruct, sharding: Sharding | None, fill: Callable[[np.ndarray, Index], None]
) -> jax.Array:
  """An array of which this host's devices get their parts, one after the other.

  Args:
    leaf: shape and dtype.
    sharding: where it lies; None is the default device, from which `jit` may move it.
    fill: `fill(out, index)` writes what is at `index` of the whole array into `out`.
  """

  def part(index: Index, devices: list[Any]) -> list[jax.Array]:
    out = _aligned(
      tuple(len(range(*at.indices(n))) for at, n in zip(index, leaf.shape)), leaf.dtype
    )
    fill(out, index)
    # Waited for, so that the host's copy is gone before the next part is read.
    return jax.block_until_ready([jax.device_put(out, device) for device in devices])

  if sharding is None:
    return part((slice(None),) * len(leaf.shape), [None])[0]
  holders: dict[tuple[Any, ...], list[Any]] = {}
  indices = sharding.addressable_devices_indices_map(leaf.shape)
  for device, index in indices.items():
    holders.setdefault(tuple((at.start, at.stop) for at in index), []).append(device)
  arrays = {}
  for devices in holders.values():  # A part that several devices hold is read once.
    arrays.update(zip(devices, part(indices[devices[0]], devices)))
  return jax.make_array_from_single_device_arrays(
    leaf.shape, sharding, [arrays[device] for device in indices], dtype=leaf.dtype
  )


def copy(out: np.ndarray, view: np.ndarray) -> None:
  """`out[...] = view`, cast on the way; the view's file is read in its own order."""
  for at, block in blocks(view):
    out[at] = block


def equal(one: np.ndarray, other: np.ndarray) -> bool:
  """Whether two views hold the same values."""
  if one.shape != other.shape:
    return False
  for at, block in blocks(one):
    if not np.array_equal(block, other[at]):
      return False
    _give_back(other)
  return True


def blocks(view: np.ndarray) -> Iterator[tuple[Index, np.ndarray]]:
  """The parts of a view in the order of the file behind it, each with its place in the view.

  The pages of a part are given back when the next one is asked for.
  """
  axis = int(np.argmax(view.strides)) if view.ndim else 0
  size = view.shape[axis] if view.ndim else 1
  step = max(1, BLOCK // max(view.strides[axis], 1)) if view.ndim else 1
  for start in range(0, size, step):
    at = (*[slice(None)] * axis, slice(start, start + step)) if view.ndim else ()
    yield at, view[at]
    _give_back(view)


def _give_back(view: Any) -> None:
  """Drops the pages of the mapped file that a view is of, if it is; they can be read again."""
  while view is not None and not isinstance(view, mmap.mmap):
    view = getattr(view, 'base', None)
  if view is not None and hasattr(mmap, 'MADV_DONTNEED'):
    view.madvise(mmap.MADV_DONTNEED)


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
  size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
  raw = np.empty(size + ALIGNMENT, np.uint8)
  start = -raw.ctypes.data % ALIGNMENT
  return raw[start : start + size].view(dtype).reshape(shape)
