"""The plan of a job on given devices: bytes, FLOPs, seconds; and searches for what fits."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import config_dict

from lora_jax import tree
from lora_jax.cost import abstract as planned
from lora_jax.cost import flops, topology
from lora_jax.models import layers
from lora_jax.train import mesh

UTILISATION = 0.4  # Of the peak: what large dense models are reported to reach.


def plan(
  config: config_dict.ConfigDict,
  where: topology.Topology,
  *,
  utilisation: float = UTILISATION,
  devices: Any = None,
) -> dict[str, Any]:
  """What one train step of a config takes on a topology, from its compilation alone.

  Args:
    config: the run's; where its mesh is the default, one is chosen (`choose_mesh`).
    where: as `topology.find` gives it.
    utilisation: share of the devices' peak that the products are expected to run at, in (0, 1].
    devices: a mesh; None is the config's or the chosen one.

  Returns:
    Numbers by name. Under `bytes`, per device: base, trainable, optimizer, batch, gradients,
    activations (all that is kept within a step), program, total, capacity, spare. Where the
    compiler gave up for want of memory, what it did not say is None, and `message` is its own.

  Raises:
    ValueError: as `job.abstract`, `choose_mesh` and `job.trace`.
  """
  if not 0 < utilisation <= 1:
    raise ValueError(f'utilisation={utilisation}: a share of the peak, in (0, 1]')
  made = planned.abstract(config)
  devices = devices or choose_mesh(made, where)
  traced, (now, frozen, batch) = planned.trace(made, devices)
  size = planned.bytes_per_device
  known = {
    'base': size(frozen),
    'trainable': size(now.trainable),
    'optimizer': size(now.opt_state),
    'batch': size(batch),
    'gradients': size(now.trainable),
  }
  operations = flops.count(traced.jaxpr)
  began = time.perf_counter()
  used, message = _compiled(traced)
  seconds = operations / (devices.size * where.peak * utilisation)
  tokens, steps = config.train.batch_size * made.length, made.steps
  total = used.pop('total')
  if 'temporary' in used:
    used['activations'] = max(0, used.pop('temporary') - known['gradients'])
  return {
    'model': config.model.name,
    'method': config.method.name,
    'topology': where.name,
    'devices': devices.size,
    'mesh': dict(devices.shape),
    'compiler': where.compiler,
    'exact': where.exact,
    'batch_size': config.train.batch_size,
    'length': made.length,
    'dtype': config.model.dtype,
    'param_dtype': config.model.param_dtype,
    'remat': config.model.remat,
    'scan': config.model.scan,
    'parameters': {
      'trained': made.summary.trainable,
      'head': made.summary.head,
      'frozen': made.summary.frozen,
    },
    'bytes': {
      **known,
      **{name: used.get(name) for name in ('activations', 'program')},
      'total': total,
      'capacity': int(where.memory),
      'spare': None if total is None else int(where.memory) - total,
    },
    'fits': total is not None and total <= where.memory,
    'message': message,
    'flops': operations,
    'utilisation': utilisation,
    'step_seconds': seconds,
    'tokens_per_second': tokens / seconds,
    'steps': steps,
    'hours': steps and steps * seconds / 3600,
    'checkpoint': {
      'trained': tree.nbytes(made.trainable),
      'resumable': sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(now)),
    },
    'compile_seconds': time.perf_counter() - began,
  }


def choose_mesh(made: planned.Planned, where: topology.Topology) -> jax.sharding.Mesh:
  """The config's mesh; where that is the default, one that suits the job.

  That is `data` alone where a whole replica takes at most a quarter of a device and the batch can
  be split so far; otherwise `fsdp` as far as the batch and the width can be split, and `tensor`,
  which splits heads, for the rest.

  Raises:
    ValueError: if the devices are more than batch and heads can be split over.
  """
  asked = dict(data=-1, fsdp=1, tensor=1) | dict(made.config.mesh)
  devices, count = where.devices(), where.count
  if asked != dict(data=-1, fsdp=1, tensor=1):
    return mesh.make_mesh(**asked, devices=devices)
  architecture, train = made.model.config, made.config.train
  rows = train.batch_size / train.accumulate
  replica = tree.nbytes(made.frozen) + 4 * tree.nbytes(made.trainable)
  if rows % count == 0 and (count == 1 or 4 * replica < where.memory):
    return mesh.make_mesh(count, devices=devices)
  fitting = [
    fsdp
    for fsdp in range(1, count + 1)
    if count % fsdp == 0
    and rows % fsdp == 0
    and architecture.hidden_size % fsdp == 0
    and architecture.num_heads % (count // fsdp) == 0
  ]
  if not fitting:
    raise ValueError(
      f'{where.name}: no mesh splits a batch of {train.batch_size} rows and '
      f'{architecture.num_heads} heads over {count} devices. Raise train.batch_size, or take a '
      'smaller slice.'
    )
  return mesh.make_mesh(1, max(fitting), count // max(fitting), devices=devices)


def compare_remat(config: config_dict.ConfigDict, where: topology.Topology, **options: Any) -> dict:
  """A plan by each policy of rematerialisation."""
  return {
    name: plan(changed(config, **{'model.remat': name}), where, **options) for name in layers.REMAT
  }


def smallest_slice(
  config: config_dict.ConfigDict, kind: str, **options: Any
) -> Iterator[dict[str, Any]]:
  """Plans of a generation's slices, smallest first, until one fits; the last is that one.

  A slice whose memory is less than the arguments of the step is not compiled for, and one that no
  mesh can use is left out; each is a dict of `topology` and `message`.
  """
  for name in topology.slices(kind):
    where = topology.find(name)
    made = planned.abstract(config)
    copies = 1 if config.method.name != 'full' else 4  # Adam's two moments, and the gradient.
    least = tree.nbytes(made.frozen) + copies * tree.nbytes(made.trainable)
    if least > where.count * where.memory:
      message = f'holds {_gib(where.count * where.memory)} of at least {_gib(least)} GiB'
      yield {'topology': name, 'fits': False, 'message': message}
      continue
    try:
      found = plan(config, where, **options)
    except ValueError as error:
      yield {'topology': name, 'fits': False, 'message': str(error)}
      continue
    yield found
    if found['fits']:
      return


def largest_batch(
  config: config_dict.ConfigDict, where: topology.Topology, limit: int = 12, **options: Any
) -> dict[str, Any]:
  """The plan with the largest `train.batch_size` that fits, on the mesh of the config's own.

  Memory grows nearly in proportion to the batch, so two compilations say where to look and a few
  more decide: at most `limit` in all.

  Raises:
    ValueError: if not even the smallest batch that the mesh can split fits.
  """
  devices = choose_mesh(planned.abstract(config), where)
  unit = mesh.row_shares(devices) * config.train.accumulate
  seen: dict[int, dict[str, Any]] = {}

  def at(units: int) -> dict[str, Any]:
    if units not in seen:
      other = changed(config, **{'train.batch_size': units * unit})
      seen[units] = plan(other, where, devices=devices, **options)
    return seen[units]

  low, high = 1, None
  if not at(1)['fits']:
    raise ValueError(f'a batch of {unit} does not fit {where.name}: {_excess(at(1))}')
  guess = 2
  while len(seen) < limit and (high is None or high - low > 1):
    if at(guess)['fits']:
      low = max(low, guess)
    else:
      high = guess if high is None else min(high, guess)
    guess = _next(seen, where.memory, low, high)
  return at(low) | {'exhausted': high is None or high - low > 1}


def changed(config: config_dict.ConfigDict, **values: Any) -> config_dict.ConfigDict:
  """A copy of a config with fields set by their path (`{'train.batch_size': 8}`)."""
  copy = config.copy_and_resolve_references()
  with copy.unlocked():
    copy.update_from_flattened_dict(values)
  return copy


def _next(seen: dict[int, Any], memory: float, low: int, high: int | None) -> int:
  """Where to look next: where a line through two plans meets the memory, kept between the ends."""
  sizes = {units: found['bytes']['total'] for units, found in seen.items()}
  known = sorted(units for units, total in sizes.items() if total is not None)
  guess = 2 * low if high is None else (low + high) // 2
  if len(known) > 1:
    first, last = known[0], known[-1]
    slope = (sizes[last] - sizes[first]) / (last - first)
    if slope > 0:
      guess = int(last + (memory - sizes[last]) / slope)
  ends = (low + 1, 64 * low) if high is None else (low + 1, high - 1)
  return min(max(guess, ends[0]), ends[1])


def _compiled(traced: Any) -> tuple[dict[str, Any], str]:
  """Bytes of the compiled step on a device, and the compiler's message if it ran out of memory."""
  try:
    memory = traced.lower().compile().memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    message = str(error)
    if 'RESOURCE_EXHAUSTED' not in message:
      raise
    return {'total': needed(message)}, message
  arguments = memory.argument_size_in_bytes + memory.output_size_in_bytes
  arguments -= memory.alias_size_in_bytes  # What is donated is used again.
  program = memory.generated_code_size_in_bytes
  return {
    'temporary': memory.temp_size_in_bytes,
    'program': program,
    'total': arguments + memory.temp_size_in_bytes + program,
  }, ''


def needed(message: str) -> int | None:
  """Bytes that a TPU compiler's out-of-memory message says are needed, or None."""
  units = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
  for pattern in (r'Used ([\d.]+)([KMGT]?) of', r'temporaries \(([\d.]+)([KMGT]?)\)'):
    if found := re.search(pattern, message):
      return int(float(found[1]) * units[found[2]])
  return None


def _excess(found: dict[str, Any]) -> str:
  spare = found['bytes']['spare']
  return 'the compiler gave up' if spare is None else f'{_gib(-spare)} GiB too much on a device'


def _gib(size: float) -> str:
  return f'{size / topology.GIB:,.2f}' if math.isfinite(size) else 'unlimited'
