"""The peak of a train step on this machine, beside what `memory.plan` says of it."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from lora_jax.cost import memory, shapes, topology

STATUS, CLEAR = Path('/proc/self/status'), Path('/proc/self/clear_refs')


def measure(
  config: config_dict.ConfigDict, where: topology.Topology, plan: memory.Plan, steps: int = 3
) -> dict[str, float]:
  """Runs the step that `memory.plan` plans, on made-up values, and says what it took.

  On an accelerator that is the runtime's own peak on the device that had the most. On a CPU it is
  the peak of the process's resident memory over what it was when the step was compiled and no array
  had been made: no other work may go on in the process.

  Args:
    config: the run's.
    where: `topology.find('this')`.
    plan: what `memory.plan` says of them.
    steps: number of updates, 2 or more: the second has the first one's results as its arguments.

  Returns:
    predicted, measured: bytes; on a CPU of all its devices, otherwise of one. ratio: the first by
    the second.

  Raises:
    ValueError: for another topology, or where the kernel does not tell resident memory.
  """
  if where.name != topology.THIS:
    raise ValueError(f'{where.name}: only this machine can be measured: find({topology.THIS!r})')
  work = shapes.abstract_job(config)
  devices = memory.choose_mesh(work, where)
  step = shapes.trace(work, devices)
  compiled = step.traced.lower().compile()
  predicted = plan['bytes']['total']
  if predicted is None:
    raise ValueError(
      f'the step does not fit {where.name}, so its peak cannot be measured. Lower '
      '--batch or --length.'
    )
  host = jax.devices()[0].platform == 'cpu'
  before = _reset() if host else 0
  state, frozen, batch = jax.tree.map(_filled, (step.state, step.frozen, step.batch))
  for _ in range(steps):
    state, metrics = compiled(state, frozen, batch)
    jax.block_until_ready((state, metrics))
  if host:
    measured, predicted = _resident('VmHWM') - before, predicted * devices.size
  else:
    measured = max(x.memory_stats()['peak_bytes_in_use'] for x in devices.devices.flat)
  return {'predicted': predicted, 'measured': measured, 'ratio': predicted / measured}


def _filled(shape: jax.ShapeDtypeStruct) -> jax.Array:
  """An array of ones where it is to lie; ids, positions and segments may all be 1."""
  make = jax.jit(lambda: jnp.ones(shape.shape, shape.dtype), out_shardings=shape.sharding)
  return jax.block_until_ready(make())


def _reset() -> int:
  """Gives back what is free, makes the peak start here, and returns the resident bytes."""
  if not (STATUS.exists() and CLEAR.exists()):
    raise ValueError('resident memory is measured by /proc/self/clear_refs: Linux alone has it')
  gc.collect()
  ctypes.CDLL(None).malloc_trim(0)
  CLEAR.write_text('5', encoding='utf-8')
  return _resident('VmRSS')


def _resident(name: str) -> int:
  sizes = dict(re.findall(r'(\w+):\s+(\d+) kB', STATUS.read_text(encoding='utf-8')))
  return int(sizes[name]) * 1024
