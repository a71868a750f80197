"""Devices as a mesh, and where each array of a run lies on it.

One program is jitted over the mesh. Rows of a batch are split over `data` and `fsdp`. A matrix is
split over `fsdp`, to be gathered when its layer needs it, and over `tensor`, by columns or by rows,
so that each device computes its part of a layer. Trainable parameters and their optimizer state are
split as the model's own leaves are.

The devices may belong to several processes; each process holds the parts on its own devices.
"""

from __future__ import annotations

import collections
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from ml_collections import config_dict

from lora_jax import quantization, tree
from lora_jax.data.layout import HostShard
from lora_jax.methods.base import FollowsFn
from lora_jax.methods.interception import Args, Context, Interceptor, Kwargs, Next
from lora_jax.models import fused_attention, presets

AXES = ('data', 'fsdp', 'tensor')
ROWS = ('data', 'fsdp')  # A batch is split over both.
SMALL = 2**20  # Elements of a trained leaf below which gathering it costs more than keeping it.

Axes = tuple[str | None, ...]
Leaf = quantization.Leaf | quantization.Kernel
Rules = Sequence[tuple[str, Axes]]
# Leaf paths -> the mesh axis of each dimension; the first match counts. The axis of stacked layers
# comes before these and is not split: the loop over layers takes one layer at a time.
TRANSFORMER: Rules = (
  (r'.*/(attention/(query|key|value)|mlp/(gate|up))/kernel', ('fsdp', 'tensor')),
  (r'.*/(attention/(query|key|value)|mlp/up)/bias', ('tensor',)),
  (r'.*/(attention/output|mlp/down)/kernel', ('tensor', 'fsdp')),
  # By width: the published vocabularies (50257, 50265, 30522) divide by nothing.
  (r'.*(word|position|relative)/embedding', (None, 'fsdp')),
  (r'lm_head/kernel', ('fsdp', None)),  # As word embeddings: few vocabularies divide.
  (r'.*convolution/kernel', (None, 'fsdp', None)),
  (r'.*(scale|bias|embedding)', ()),
)
RULES = dict.fromkeys(presets.FAMILIES, TRANSFORMER)


def make_mesh(
  data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """A mesh with the axes `AXES`; -1 for `data` takes all remaining devices.

  Args:
    data, fsdp, tensor: number of devices along each axis.
    devices: the devices to take from; None is all that JAX sees.

  Raises:
    ValueError: if there are too few devices, or their number is not a multiple of `fsdp` x
      `tensor`; with several processes, if there are too many: one would have nothing to do; if one
      process has more devices than another.
  """
  devices = jax.devices() if devices is None else list(devices)
  counts = collections.Counter(device.process_index for device in devices)
  if len(set(counts.values())) > 1:  # JAX's own exchange between processes counts on it.
    found = ', '.join(f'process {process} has {n}' for process, n in sorted(counts.items()))
    raise ValueError(
      f'expected as many devices in each process, found: {found}. Hide some where there are more '
      '(CUDA_VISIBLE_DEVICES; JAX_NUM_CPU_DEVICES on a CPU).'
    )
  inner = fsdp * tensor
  named = f'mesh.fsdp={fsdp} x mesh.tensor={tensor}'
  if min(fsdp, tensor) < 1 or (data < 1 and data != -1):
    raise ValueError(f'mesh.data={data} x {named}: each is 1 or more, mesh.data also -1')
  if data == -1:
    data = len(devices) // inner
    if data * inner != len(devices):
      raise ValueError(f'{named} does not divide the {len(devices)} devices')
  if data * inner > len(devices):
    raise ValueError(
      f'mesh.data={data} x {named} needs {data * inner} devices; there are {len(devices)}'
    )
  if data * inner < len(devices) and jax.process_count() > 1:
    raise ValueError(
      f'mesh.data={data} x {named} takes {data * inner} of the {len(devices)} devices of '
      f'{jax.process_count()} processes, which have to take all. Leave mesh.data at -1.'
    )
  # Axes may share a side of a TPU's torus: 8 x 8 of 4x4x4 chips cannot be made of whole sides.
  chosen = mesh_utils.create_device_mesh(
    (data, fsdp, tensor), devices[: data * inner], allow_split_physical_axes=True
  )
  return Mesh(chosen, AXES, axis_types=(AxisType.Auto,) * 3)


def for_run(config: config_dict.ConfigDict) -> Mesh:
  """All available devices, along the axes that a run was trained on if their number allows it.

  Args:
    config: the `mesh` section of the run's config.
  """
  fsdp, tensor = config.fsdp, config.tensor if 'tensor' in config else 1
  fits = len(jax.devices()) % (fsdp * tensor) == 0
  return make_mesh(-1, fsdp, tensor) if fits else make_mesh()


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of an array that lies on each device as a whole."""
  return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh) -> NamedSharding:
  """The sharding of batches [steps, rows, ...]: their rows are split."""
  return NamedSharding(mesh, PartitionSpec(None, ROWS))


def evaluation_rows(mesh: Mesh) -> NamedSharding:
  """The sharding of batches [rows, ...]: their rows are split."""
  return NamedSharding(mesh, PartitionSpec(ROWS))


def members(mesh: Mesh, count: int, axis: int = 0) -> NamedSharding:
  """The sharding of arrays whose `axis` has one entry for each of `count` members of a sweep.

  The members are split over all devices if their number is a multiple of that of the devices.
  Otherwise each device holds all members, and the rows of the batch can be split.
  """
  if count % mesh.size:
    return replicated(mesh)
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, ROWS))


def row_shares(mesh: Mesh) -> int:
  """The number of parts that the rows of a batch are split into."""
  return math.prod(mesh.shape[axis] for axis in ROWS)


def target(mesh: Mesh) -> fused_attention.Target:
  """What a program jitted over the mesh is traced for: it decides how attention is computed."""
  return fused_attention.Target.of(mesh, ROWS, 'tensor')


def host_shard(mesh: Mesh) -> HostShard:
  """The parts of a batch's rows that this process's devices hold."""
  by_part = mesh.devices.reshape(row_shares(mesh), -1)
  here = jax.process_index()
  own = [i for i, part in enumerate(by_part) if any(d.process_index == here for d in part)]
  return HostShard(len(by_part), tuple(own))


def check_batch(mesh: Mesh, batch_size: int, accumulate: int) -> int:
  """The number that the rows of each batch must be a multiple of.

  Raises:
    ValueError: if a batch has fewer examples than there are parts and accumulation steps.
  """
  shares = row_shares(mesh) * accumulate
  if batch_size < shares:
    raise ValueError(
      f'train.batch_size={batch_size} cannot be split over {row_shares(mesh)} devices x '
      f'{accumulate} accumulation steps. Raise it to {shares}, or lower mesh.data, mesh.fsdp or '
      'train.accumulate.'
    )
  return shares


def shardings(
  params: tree.Params,
  mesh: Mesh,
  family: str = '',
  trained: bool = False,
  follows: FollowsFn = lambda path: None,
) -> dict[str, Any]:
  """The sharding of each leaf, as a tree of the shape of `params`.

  A leaf that the family's rules name is split as they say, a leaf of a method as the axes of the
  weight that it follows. Any other matrix is split over `fsdp` along its largest axis that divides,
  and so are all matrices of a model without rules; vectors are replicated. Replicated are also
  trained leaves of fewer than `SMALL` elements, unless a rule names them.

  Args:
    params: arrays or shapes.
    mesh: a mesh with the axes `AXES`.
    family: the model's, a key of `RULES`; any other name has no rules.
    trained: whether `params` are trained, or are the optimizer's state of trained parameters.
    follows: of the method that added leaves to `params`, see `Method.follows`.

  Raises:
    ValueError: naming each leaf with a dimension that its mesh axis does not divide.
  """
  rules = RULES.get(family, ())
  specs, problems = {}, []
  for path, leaf in tree.flatten(params).items():
    shape = tuple(leaf.shape)
    small = trained and math.prod(shape) < SMALL
    try:
      specs[path] = _sharding(leaf, _spec(path, shape, mesh, rules, small, follows), mesh)
    except ValueError as error:
      problems.append(str(error))
  if problems:
    raise ValueError('\n'.join(problems))
  return tree.unflatten(specs)


def place(
  params: tree.Params,
  mesh: Mesh,
  family: str = '',
  trained: bool = False,
  follows: FollowsFn = lambda path: None,
) -> dict[str, Any]:
  """Puts arrays where `shardings` says; each device is sent its own part alone."""
  return put(params, shardings(params, mesh, family, trained, follows))


def put(arrays: Any, where: Any) -> Any:
  """Sends each device its part of arrays that every process has whole, or that lie on the mesh.

  It does what `jax.device_put` does, which with several processes would compare all their arrays.

  Args:
    arrays: a tree of arrays.
    where: a sharding for all arrays, or a tree of shardings.
  """

  def one(array: Any, where: Sharding) -> jax.Array:
    if where.is_fully_addressable or not getattr(array, 'is_fully_addressable', True):
      return jax.device_put(array, where)
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, where, lambda index: whole[index])

  if isinstance(where, Sharding):
    return jax.tree.map(lambda array: one(array, where), arrays)
  return jax.tree.map(one, arrays, where)


def put_rows(own: np.ndarray, where: NamedSharding, host_shard: HostShard) -> jax.Array:
  """Puts batches [K, rows, ...] on the mesh; `own` are the rows of this process's host shard."""
  if where.is_fully_addressable:
    return jax.device_put(own, where)
  size = own.shape[1] // len(host_shard.held)  # Rows of a part.

  def part(index: tuple[slice, ...] | None) -> np.ndarray:
    if index is None:
      return own
    first, last, _ = index[1].indices(shape[1])
    place = host_shard.held.index(first // size) * size + first % size
    return own[:, place : place + last - first]

  shape = (len(own), size * host_shard.parts, *own.shape[2:])
  return jax.make_array_from_callback(shape, where, part)


def state_shardings(now: Any, mesh: Mesh, family: str, follows: FollowsFn) -> Any:
  """The shardings of a `TrainState` of arrays or shapes, as a `TrainState`; see `shardings`.

  Each tree of leaves of `trainable` in the optimizer's state, of all or of those that it updates,
  is split as they are.
  """
  leaves = shardings(now.trainable, mesh, family, trained=True, follows=follows)
  by_path, whole = tree.flatten(leaves), replicated(mesh)
  is_tree = lambda node: isinstance(node, Mapping)
  like = lambda node: tree.unflatten({path: by_path[path] for path in tree.paths(node)})
  opt_state = jax.tree.map(
    lambda node: like(node) if is_tree(node) else whole, now.opt_state, is_leaf=is_tree
  )
  return now._replace(step=whole, trainable=leaves, opt_state=opt_state, key=whole)


@functools.cache
def hold_rows(mesh: Mesh) -> Interceptor:
  """A `flax.linen` interceptor that keeps the outputs of dense layers and embeddings split by rows.

  Without it the compiler may leave the weights where they are, gather the rows of all devices on
  each device, and add up partial products.
  """
  free = PartitionSpec.UNCONSTRAINED
  shares = row_shares(mesh)

  def interceptor(next_fun: Next, args: Args, kwargs: Kwargs, context: Context) -> Any:
    y = next_fun(*args, **kwargs)
    is_layer = isinstance(context.module, nn.Dense | nn.Embed) and context.method_name == '__call__'
    if not is_layer or y.ndim < 3 or y.shape[0] % shares:
      return y
    spec = PartitionSpec(ROWS, *[free] * (y.ndim - 1))
    return jax.lax.with_sharding_constraint(y, NamedSharding(mesh, spec))

  return interceptor


def platform(mesh: Mesh) -> str:
  """`cpu`, `gpu` or `tpu`."""
  return mesh.devices.flat[0].platform


def device_names(mesh: Mesh) -> str:
  """The number and kind of the devices of all hosts, for a result: `8 x NVIDIA H200`."""
  kinds = sorted({device.device_kind for device in mesh.devices.flat})
  return f'{math.prod(mesh.devices.shape)} x {", ".join(kinds)}'


def _spec(
  path: str, shape: tuple[int, ...], mesh: Mesh, rules: Rules, small: bool, follows: FollowsFn
) -> PartitionSpec:
  axes = _axes(path, rules, small, follows)
  if axes is not None:
    return _checked(path, shape, axes, mesh)
  fsdp = mesh.shape['fsdp']
  if small or fsdp == 1 or len(shape) < 2:
    return PartitionSpec()
  dividing = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
  if not dividing:
    raise ValueError(f'{path}: no axis of {shape} is a multiple of mesh.fsdp={fsdp}')
  largest = max(dividing, key=lambda axis: shape[axis])
  return PartitionSpec(*[None] * largest, 'fsdp')


def _sharding(leaf: Leaf, spec: PartitionSpec, mesh: Mesh) -> NamedSharding | quantization.Kernel:
  """The sharding of a leaf; of a quantized kernel that of each array, where its axes divide."""
  if not isinstance(leaf, quantization.Kernel):
    return NamedSharding(mesh, spec)
  fits = lambda size, axis: axis if axis is None or size % mesh.shape[axis] == 0 else None

  def of_array(array: quantization.Leaf) -> NamedSharding:
    axes = map(fits, array.shape, spec) if len(array.shape) == leaf.ndim else ()
    return NamedSharding(mesh, PartitionSpec(*axes))

  return jax.tree.map(of_array, leaf)


def _axes(path: str, rules: Rules, small: bool, follows: FollowsFn) -> Axes | None:
  """The mesh axis of each dimension by the rules; None if they say nothing of a leaf."""
  followed = follows(path)
  if followed is None:
    return _first(rules, path)
  weight, dimensions = followed
  axes = _first(rules, weight)
  if axes is None or small:
    return None
  return tuple(None if axis is None else axes[axis] for axis in dimensions)


def _first(rules: Rules, path: str) -> Axes | None:
  return next((axes for pattern, axes in rules if re.fullmatch(pattern, path)), None)


def _checked(path: str, shape: tuple[int, ...], axes: Axes, mesh: Mesh) -> PartitionSpec:
  axes = (None,) * (len(shape) - len(axes)) + axes  # The axes of stacked layers are not split.
  for dimension, (size, axis) in enumerate(zip(shape, axes)):
    if axis and size % mesh.shape[axis]:
      raise ValueError(
        f'{path}: axis {dimension} of {shape} is {size}, not a multiple of '
        f'mesh.{axis}={mesh.shape[axis]}'
      )
  return PartitionSpec(*axes)
