"""Searches over plans: the smallest slice, the largest batch, the policies of rematerialization."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import config_dict

from lora_jax import tree
from lora_jax.cost import shapes, topology
from lora_jax.cost.memory import Plan, changed, choose_mesh, plan
from lora_jax.models import layers
from lora_jax.train import mesh


class Skipped(NamedTuple):
  """A slice that was not compiled for, and why."""

  topology: str
  message: str
  fits: bool = False


def as_json(one: Plan | Skipped) -> Mapping[str, Any]:
  """What a report holds of a slice that was tried."""
  return one._asdict() if isinstance(one, Skipped) else one


def compare_remat(
  config: config_dict.ConfigDict, where: topology.Topology, **options: Any
) -> dict[str, Plan]:
  """A plan for each policy of rematerialization."""
  return {
    name: plan(changed(config, **{'model.remat': name}), where, **options) for name in layers.REMAT
  }


def smallest_slice(
  config: config_dict.ConfigDict, kind: str, **options: Any
) -> Iterator[Plan | Skipped]:
  """Plans of a generation's slices, smallest first, until one fits; the last is that one.

  A slice that holds less than the state and the gradient is not compiled for, nor is one that no
  mesh can use.
  """
  work = shapes.abstract_job(config)
  least = tree.nbytes(work.frozen) + 4 * tree.nbytes(work.trainable)  # With Adam's two moments.
  for name in topology.slices(kind):
    where = topology.find(name)
    if least > where.count * where.memory:
      message = f'holds {_gib(where.count * where.memory)} of at least {_gib(least)} GiB'
      yield Skipped(name, message)
      continue
    try:
      found = plan(config, where, **options)
    except ValueError as error:
      yield Skipped(name, str(error))
      continue
    yield found
    if found['fits']:
      return


def largest_batch(
  config: config_dict.ConfigDict, where: topology.Topology, limit: int = 12, **options: Any
) -> Plan:
  """The plan with the largest `train.batch_size` that fits, on the mesh of the config's own.

  Memory grows nearly in proportion to the batch, so two compilations say where to look and a few
  more decide: at most `limit` in all.

  Raises:
    ValueError: if not even the smallest batch that the mesh can split fits.
  """
  devices = choose_mesh(shapes.abstract_job(config), where)
  unit = mesh.row_shares(devices) * config.train.accumulate
  seen: dict[int, Plan] = {}

  def at(units: int) -> Plan:
    if units not in seen:
      other = changed(config, **{'train.batch_size': units * unit})
      seen[units] = plan(other, where, devices=devices, **options)
    return seen[units]

  low, high = 1, None
  if not at(1)['fits']:
    spare = at(1)['bytes']['spare']
    excess = 'the compiler gave up' if spare is None else f'{_gib(-spare)} GiB too much on a device'
    raise ValueError(f'a batch of {unit} does not fit {where.name}: {excess}')
  guess = 2
  while len(seen) < limit and (high is None or high - low > 1):
    if at(guess)['fits']:
      low = max(low, guess)
    else:
      high = guess if high is None else min(high, guess)
    totals = {units: found['bytes']['total'] for units, found in seen.items()}
    guess = _next(totals, where.memory, low, high)
  found = at(low)
  found['exhausted'] = high is None or high - low > 1
  return found


def _next(totals: dict[int, int | None], memory: float, low: int, high: int | None) -> int:
  """Where to look next: where a line through two plans meets the memory, kept between the ends."""
  known = sorted((units, total) for units, total in totals.items() if total is not None)
  guess = 2 * low if high is None else (low + high) // 2
  if len(known) > 1:
    (first, least), (last, most) = known[0], known[-1]
    slope = (most - least) / (last - first)
    if slope > 0:
      guess = int(last + (memory - most) / slope)
  ends = (low + 1, 64 * low) if high is None else (low + 1, high - 1)
  return min(max(guess, ends[0]), ends[1])


def _gib(size: float) -> str:
  return f'{size / topology.GIB:,.2f}' if math.isfinite(size) else 'unlimited'
