"""The plan of a job on given devices: bytes, FLOPs, seconds, from the compilation of its step."""

from __future__ import annotations

import re
import time
from typing import NotRequired, TypedDict

import jax
from jax.sharding import Mesh
from ml_collections import config_dict

from lora_jax import tree
from lora_jax.cost import flops, program, shapes, topology
from lora_jax.train import base_options, job, layer_choice, mesh

UTILIZATION = 0.4  # Of the peak: what large dense models are reported to reach.


class Bytes(TypedDict):
  """Bytes on one device; None where the compiler ran out of memory and did not say."""

  base: int
  trainable: int
  optimizer: int
  batch: int
  gradients: int
  activations: int | None  # All that is kept within a step, but for the gradients.
  program: int | None
  total: int | None
  capacity: int
  spare: int | None


class Plan(TypedDict):
  """What one train step takes on given devices; the contents of a plan's JSON.

  `scan` is None where the layers were planned looped, but the run may choose scanned ones.
  `message` is the compiler's own where it ran out of memory. `flops` are of a step, on all devices;
  `checkpoint` has the bytes of the trainable parameters and of all that a resumed run needs.
  """

  model: str
  method: str
  topology: str
  devices: int
  mesh: dict[str, int]
  compiler: str
  exact: bool
  batch_size: int
  length: int
  dtype: str
  param_dtype: str
  quantize: str
  remat: str
  scan: bool | None
  parameters: dict[str, int]
  bytes: Bytes
  fits: bool
  message: str
  flops: float
  utilization: float
  step_seconds: float
  tokens_per_second: float
  steps: int | None
  hours: float | None
  checkpoint: dict[str, int]
  compile_seconds: float
  exhausted: NotRequired[bool]  # Of `largest_batch`: its limit ended the search.


class Compiled(TypedDict):
  """Bytes of a compiled step on a device, and the compiler's message if it ran out of memory."""

  temporary: int | None
  program: int | None
  total: int | None
  message: str


def plan(
  config: config_dict.ConfigDict,
  where: topology.Topology,
  *,
  utilization: float = UTILIZATION,
  devices: Mesh | None = None,
) -> Plan:
  """What one train step of a config takes on a topology, from its compilation alone.

  Args:
    config: the run's; where its mesh is the default, one is chosen (`choose_mesh`).
    where: as `topology.find` gives it.
    utilization: share of the devices' peak that the products are expected to run at, in (0, 1].
    devices: a mesh; None is the config's or the chosen one.

  Raises:
    ValueError: as `shapes.abstract_job`, `choose_mesh` and `shapes.trace`.
  """
  if not 0 < utilization <= 1:
    raise ValueError(f'utilization={utilization}: a share of the peak, in (0, 1]')
  work = shapes.abstract_job(config)
  devices = devices or choose_mesh(work, where)
  step = shapes.trace(work, devices)
  operations = _operations(config, step, devices)
  began = time.perf_counter()
  compiled = compile_step(step.traced)
  seconds = operations / (devices.size * where.peak * utilization)
  steps = shapes.count_steps(config)
  total = compiled['total']
  is_open = layer_choice.is_open([config]) and layer_choice.can_be_scanned(config)
  return Plan(
    model=config.model.name,
    method=config.method.name,
    topology=where.name,
    devices=devices.size,
    mesh=dict(devices.shape),
    compiler=where.compiler,
    exact=where.exact,
    batch_size=config.train.batch_size,
    length=work.max_length,
    dtype=config.model.dtype,
    param_dtype=config.model.param_dtype,
    quantize=base_options.quantization_of(config),
    remat=config.model.remat,
    scan=None if is_open else bool(config.model.scan),
    parameters={
      'trained': work.summary.trainable,
      'head': work.summary.head,
      'frozen': work.summary.frozen,
    },
    bytes=_bytes(step, compiled, int(where.memory)),
    fits=total is not None and total <= where.memory,
    message=compiled['message'],
    flops=operations,
    utilization=utilization,
    step_seconds=seconds,
    tokens_per_second=config.train.batch_size * work.max_length / seconds,
    steps=steps,
    hours=steps and steps * seconds / 3600,
    checkpoint={
      'trained': tree.nbytes(work.trainable),
      'resumable': sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(step.state)),
    },
    compile_seconds=time.perf_counter() - began,
  )


def _operations(config: config_dict.ConfigDict, step: shapes.TracedStep, devices: Mesh) -> float:
  """FLOPs of a step, on all devices together.

  A device's own kernel of attention hides its products: they are counted as XLA computes them.
  """
  if mesh.target(devices).platform != 'cpu':
    work = shapes.abstract_job(changed(config, **{'model.attention': 'xla'}))
    step = shapes.trace(work, devices)
  return flops.count(step.traced.jaxpr)


def _bytes(step: shapes.TracedStep, compiled: Compiled, capacity: int) -> Bytes:
  size = shapes.bytes_per_device
  gradients = trainable = size(step.state.trainable)
  temporary, total = compiled['temporary'], compiled['total']
  return Bytes(
    base=size(step.frozen),
    trainable=trainable,
    optimizer=size(step.state.opt_state),
    batch=size(step.batch),
    gradients=gradients,
    activations=None if temporary is None else max(0, temporary - gradients),
    program=compiled['program'],
    total=total,
    capacity=capacity,
    spare=None if total is None else capacity - total,
  )


def choose_mesh(work: job.Job, where: topology.Topology) -> Mesh:
  """The config's mesh; where that is the default, one that suits the job.

  That is `data` alone where a whole replica takes at most a quarter of a device and the batch can
  be split so far; otherwise `fsdp` as far as the batch and the width can be split, and `tensor`,
  which splits heads, for the rest.

  Raises:
    ValueError: if the devices are more than batch and heads can be split over.
  """
  asked = dict(data=-1, fsdp=1, tensor=1) | dict(work.config.mesh)
  devices, count = where.devices(), where.count
  if asked != dict(data=-1, fsdp=1, tensor=1):
    return mesh.make_mesh(**asked, devices=devices)
  architecture, train = work.model.config, work.config.train
  rows = train.batch_size / train.accumulate
  replica = tree.nbytes(work.frozen) + 4 * tree.nbytes(work.trainable)
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


def changed(config: config_dict.ConfigDict, **values: object) -> config_dict.ConfigDict:
  """A copy of a config with fields set by their path (`{'train.batch_size': 8}`)."""
  copy = config.copy_and_resolve_references()
  with copy.unlocked():
    copy.update_from_flattened_dict(values)
  return copy


def compile_step(traced: jax.stages.Traced) -> Compiled:
  """Compiles a traced step for its devices, without running it."""
  try:
    size = program.size(traced.lower().compile())
  except jax.errors.JaxRuntimeError as error:
    message = str(error)
    if 'RESOURCE_EXHAUSTED' not in message:
      raise
    return Compiled(temporary=None, program=None, total=needed(message), message=message)
  total = size.peak + size.code
  return Compiled(temporary=size.temporary, program=size.code, total=total, message='')


def needed(message: str) -> int | None:
  """Bytes that a TPU compiler's out-of-memory message says are needed, or None."""
  units = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
  for pattern in (r'Used ([\d.]+)([KMGT]?) of', r'temporaries \(([\d.]+)([KMGT]?)\)'):
    if found := re.search(pattern, message):
      return int(float(found[1]) * units[found[2]])
  return None
