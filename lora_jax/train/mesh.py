"""Devices as a mesh, and where each array of a run lies on it.

Data-parallel training is one program, jitted over the mesh: rows of a batch are split over all
devices, what is trained is replicated, and the frozen base is replicated or split over `fsdp`.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lora_jax import tree

ROWS = ('data', 'fsdp')  # A batch is split over both; the base over `fsdp` alone.


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
  """Mesh of axes `data` and `fsdp`; -1 for `data` is all devices that are left.

  Raises:
    ValueError: if there are too few devices, or their number is no multiple of `fsdp`.
  """
  devices = jax.devices()
  if data == -1:
    data = len(devices) // fsdp
    if data * fsdp != len(devices):
      raise ValueError(f'mesh.fsdp={fsdp} does not divide the {len(devices)} devices')
  if data < 1 or fsdp < 1 or data * fsdp > len(devices):
    raise ValueError(
      f'mesh.data={data} x mesh.fsdp={fsdp} needs {data * fsdp} devices; there are {len(devices)}'
    )
  return jax.make_mesh(
    (data, fsdp), ROWS, axis_types=(AxisType.Auto,) * 2, devices=devices[: data * fsdp]
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on each device."""
  return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh) -> NamedSharding:
  """Batches [steps, rows, ...] with their rows split over all devices."""
  return NamedSharding(mesh, PartitionSpec(None, ROWS))


def evaluation_rows(mesh: Mesh) -> NamedSharding:
  """Batches [rows, ...] with their rows split over all devices."""
  return NamedSharding(mesh, PartitionSpec(ROWS))


def lanes(mesh: Mesh, count: int, axis: int = 0) -> NamedSharding:
  """Arrays of which `axis` has one entry a lane, split over all devices if they divide `count`.

  Else they are whole on each device, and the rows of the batch may be split as ever.
  """
  if count % mesh.size:
    return replicated(mesh)
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, ROWS))


def check_batch(mesh: Mesh, batch_size: int, accumulate: int) -> int:
  """The number that the rows of each batch must be a multiple of.

  Raises:
    ValueError: if a batch has fewer examples than there are devices and accumulation steps.
  """
  shares = mesh.size * accumulate
  if batch_size < shares:
    raise ValueError(
      f'train.batch_size={batch_size} cannot be split over {mesh.size} devices x '
      f'{accumulate} accumulation steps. Raise it to {shares}, or lower mesh.data or '
      'train.accumulate.'
    )
  return shares


def place_frozen(frozen: tree.Params, mesh: Mesh) -> Any:
  """The frozen base on the mesh: each matrix split over `fsdp` along its largest axis that divides.

  Vectors are replicated.

  Raises:
    ValueError: naming a matrix that has no axis that `fsdp` divides.
  """
  fsdp = mesh.shape['fsdp']

  def sharding(path: str, shape: tuple[int, ...]) -> NamedSharding:
    if fsdp == 1 or len(shape) < 2:
      return replicated(mesh)
    axes = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if not axes:
      raise ValueError(f'{path}: no axis of {shape} is a multiple of mesh.fsdp={fsdp}')
    largest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * largest, 'fsdp'))

  leaves = tree.flatten(frozen)
  shardings = {path: sharding(path, leaf.shape) for path, leaf in leaves.items()}
  return tree.unflatten(jax.device_put(leaves, shardings))


def device_names(mesh: Mesh) -> str:
  """Kind and number of the devices, for a result: `8 x NVIDIA H200`."""
  kinds = sorted({device.device_kind for device in mesh.devices.flat})
  return f'{math.prod(mesh.devices.shape)} x {", ".join(kinds)}'
