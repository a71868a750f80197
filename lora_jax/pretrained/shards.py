"""Arrays read from files straight onto devices: each device is sent its part and no other.

One part is in host memory at a time, in the dtype of the array that it becomes a part of. A file is
mapped into memory. Its pages are released block by block once read, so they do not add up either.
"""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import jax
import numpy as np
from jax.sharding import Sharding

from lora_jax import quantization, tree

# Takes a tree of `jax.ShapeDtypeStruct`s and returns the tree of their shardings. None in the place
# of a sharding is the default device.
Shape = jax.ShapeDtypeStruct | quantization.Kernel
Place = Callable[[tree.Tree], tree.Params]
Index = tuple[slice, ...]
BLOCK = 4 << 20  # Bytes of a file that are read before its pages are released.
ALIGNMENT = 64  # Bytes. On the CPU, JAX takes an array with this alignment without a copy.


def leaf_shardings(
  shapes: Mapping[str, Shape], place: Place | None
) -> dict[str, Sharding | quantization.Kernel | None]:
  """The sharding of each array by path; without `place`, all lie on the default device (None).

  Args:
    shapes: shapes and dtypes by path; the sharding of a quantized kernel is one of each array.
    place: takes them as a nested dict.

  Raises:
    ValueError: naming all arrays for which `place` gives no sharding, or one that does not fit.
  """
  if place is None:
    return dict.fromkeys(shapes)
  found, problems = tree.flatten(place(tree.unflatten(shapes))), []
  for path, leaf in shapes.items():
    sharding = found.get(path, leaf)
    if sharding is None:
      continue
    arrays = leaf.arrays if isinstance(leaf, quantization.Kernel) else {'': leaf}
    given = sharding.arrays if isinstance(sharding, quantization.Kernel) else {'': sharding}
    for name, array in arrays.items():
      if problem := _misfit(array, given.get(name) if path in found else 'nothing'):
        problems.append(f'{path}{name and " " + name}: {problem}')
  if problems:
    raise ValueError('\n'.join(problems))
  return {path: found[path] for path in shapes}


def assemble(
  leaf: jax.ShapeDtypeStruct, sharding: Sharding | None, fill: Callable[[np.ndarray, Index], None]
) -> jax.Array:
  """An array whose parts are read and sent to this host's devices one after the other.

  Args:
    leaf: shape and dtype.
    sharding: where the array lies; None is the default device, from which `jit` may move it.
    fill: `fill(out, index)` writes the elements at `index` of the whole array into `out`.
  """

  def read(index: Index, devices: Sequence[jax.Device | None]) -> list[jax.Array]:
    shape = tuple(len(range(*at.indices(n))) for at, n in zip(index, leaf.shape))
    out = _empty_aligned(shape, leaf.dtype)
    fill(out, index)
    # Waits for the transfer, so that the host's copy is freed before the next part is read.
    return jax.block_until_ready([jax.device_put(out, device) for device in devices])

  whole = (slice(None),) * len(leaf.shape)
  if sharding is None:
    return read(whole, [None])[0]
  indices = {
    device: index or whole
    for device, index in sharding.addressable_devices_indices_map(leaf.shape).items()
  }
  holders: dict[tuple[tuple[int | None, int | None], ...], list[jax.Device]] = {}
  for device, index in indices.items():
    holders.setdefault(tuple((at.start, at.stop) for at in index), []).append(device)
  arrays: dict[jax.Device, jax.Array] = {}
  for devices in holders.values():  # A part that several devices hold is read once.
    arrays.update(zip(devices, read(indices[devices[0]], devices)))
  return jax.make_array_from_single_device_arrays(
    leaf.shape, sharding, [arrays[device] for device in indices], dtype=leaf.dtype
  )


def assemble_kernel(
  kernel: quantization.Kernel, sharding: Sharding | quantization.Kernel | None
) -> quantization.Kernel:
  """A quantized kernel whose arrays, in host memory as a whole, lie where the sharding says."""
  places = sharding.arrays if isinstance(sharding, quantization.Kernel) else {}

  def put(name: str, array: np.ndarray) -> jax.Array:
    leaf = jax.ShapeDtypeStruct(array.shape, array.dtype)
    fill = lambda out, index: np.copyto(out, array[index])
    return assemble(leaf, cast(Sharding | None, places.get(name)), fill)

  arrays = {name: put(name, np.asarray(array)) for name, array in kernel.arrays.items()}
  return dataclasses.replace(kernel, arrays=arrays)


def copy(out: np.ndarray, view: np.ndarray) -> None:
  """`out[...] = view`, cast to the dtype of `out`; the view's file is read in its own order.

  Raises:
    ValueError: if a floating-point number of the view is NaN or infinite.
  """
  infinity = np.array(np.inf, view.dtype).view(f'u{view.itemsize}')
  for at, block in blocks(view):
    out[at] = block
    # By the bits of the exponent: np.isfinite takes five times as long in bfloat16.
    if ((block.view(infinity.dtype) & infinity) == infinity).any():
      raise ValueError('NaN or infinity')


def equal(one: np.ndarray, other: np.ndarray) -> bool:
  """Whether two views hold the same values."""
  if one.shape != other.shape:
    return False
  for at, block in blocks(one):
    if not np.array_equal(block, other[at]):
      return False
    _release(other)
  return True


def blocks(view: np.ndarray) -> Iterator[tuple[Index, np.ndarray]]:
  """The blocks of a view in the order of the file behind it, each with its index in the view.

  The pages of a block are released when the next block is asked for.
  """
  axis = int(np.argmax(view.strides)) if view.ndim else 0
  size = view.shape[axis] if view.ndim else 1
  step = max(1, BLOCK // max(view.strides[axis], 1)) if view.ndim else 1
  for start in range(0, size, step):
    at = (*[slice(None)] * axis, slice(start, start + step)) if view.ndim else ()
    yield at, view[at]
    _release(view)


def _misfit(array: quantization.Leaf, sharding: object) -> str:
  """Why a sharding is not one of an array, '' if it is one."""
  if not isinstance(sharding, Sharding):
    given = sharding if isinstance(sharding, str) else repr(sharding)
    return f'place gave {given}, expected a jax.sharding.Sharding'
  try:
    sharding.shard_shape(array.shape)
  except ValueError as error:
    return f'{sharding} does not fit {array.shape}: {error}'
  return ''


def _release(view: np.ndarray) -> None:
  """Drops the pages of the mapped file behind a view, if there is one; they can be read again."""
  base: object = view
  while base is not None and not isinstance(base, mmap.mmap):
    base = getattr(base, 'base', None)
  if base is not None and hasattr(mmap, 'MADV_DONTNEED'):
    base.madvise(mmap.MADV_DONTNEED)


def _empty_aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
  raw = np.empty(size + ALIGNMENT, np.uint8)
  start = -raw.ctypes.data % ALIGNMENT
  return raw[start : start + size].view(dtype).reshape(shape)
