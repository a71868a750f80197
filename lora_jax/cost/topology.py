"""Devices that a job may be planned for: TPU slices by name, or those of this machine."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
import os
import re
import time

import jax
import jax.numpy as jnp

GIB = 2**30
# Shapes whose chips a cloud rents together, smallest first.
FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
SMALL_CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4')
CUBES = (*SMALL_CUBES, '4x4x8', '4x8x8', '8x8x8', '8x8x16', '8x16x16', '16x16x16')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """A generation of TPU, as the compiler sees one of its devices.

  Attributes:
    memory: bytes that a program may use, as the compiler of libtpu 0.0.42 states them.
    peak: bfloat16 FLOP/s, as its maker states them.
    slices: shapes that exist.
    cores: devices of a chip: of v4 each core is one.
  """

  memory: float
  peak: float
  slices: tuple[str, ...]
  cores: int = 1


CHIPS = {
  'v4': Chip(memory=15.25 * GIB, peak=137.5e12, slices=CUBES, cores=2),
  'v5e': Chip(memory=15.75 * GIB, peak=197e12, slices=FLAT),
  'v5p': Chip(memory=95.74 * GIB, peak=459e12, slices=CUBES),
  'v6e': Chip(memory=31.25 * GIB, peak=918e12, slices=FLAT),
}
# Dense bfloat16 or half FLOP/s from the makers' data sheets, by a part of the device's name; the
# first match counts.
GPUS = {
  'H200': 989e12,
  'H100 PCIe': 756e12,
  'H100': 989e12,
  'A100': 312e12,
  'V100': 125e12,
}
# The generation of a TPU by the name that its runtime gives; the first match counts.
TPUS = {'v6 lite': 'v6e', 'v5 lite': 'v5e', 'v6e': 'v6e', 'v5e': 'v5e', 'v5': 'v5p', 'v4': 'v4'}
THIS = 'this'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
  """Devices to compile for.

  Attributes:
    name: as it was asked for (`v5e:8x8`, `this`).
    count: number of devices.
    memory: bytes of each.
    peak: FLOP/s of each.
    exact: the compiler is that of the devices; otherwise XLA:CPU's stands in for it.
    compiler: its name and version.
  """

  name: str
  count: int
  memory: float
  peak: float
  exact: bool
  compiler: str

  def devices(self) -> list[jax.Device]:
    """The devices; those of a slice need not exist on this machine.

    Raises:
      ValueError: if XLA:CPU stands in, with fewer devices than are needed.
    """
    if self.name == THIS:
      return jax.devices()
    if self.exact:
      return described(self.name)
    found = jax.devices('cpu')
    if len(found) < self.count:
      raise ValueError(
        f'an estimate for {self.name} needs {self.count} CPU devices, there are {len(found)}: '
        f"call jax.config.update('jax_num_cpu_devices', {self.count}) before any other use of JAX"
      )
    return found[: self.count]


def find(name: str) -> Topology:
  """The topology of a name: `this`, or a generation and a shape.

  Raises:
    ValueError: for an unknown generation or shape; those that exist are listed.
  """
  if name == THIS:
    return _this()
  kind, _, shape = name.partition(':')
  if kind not in CHIPS:
    known = ', '.join(CHIPS)
    raise ValueError(f'topology {name!r}: expected {THIS!r} or one of {known}, as in v5e:8x8')
  chip = CHIPS[kind]
  if shape not in chip.slices:
    raise ValueError(f'topology {name!r}: {kind} comes as {", ".join(chip.slices)}')
  exact = libtpu() is not None
  return Topology(
    name=name,
    count=chips(name) * chip.cores,
    memory=chip.memory,
    peak=chip.peak,
    exact=exact,
    compiler=f'libtpu {libtpu()}' if exact else f'XLA:CPU of jax {jax.__version__}',
  )


def chips(name: str) -> int:
  """Number of chips of a slice."""
  return math.prod(int(size) for size in re.findall(r'\d+', name.partition(':')[2]))


def slices(kind: str) -> list[str]:
  """Names of a generation's slices, smallest first.

  Raises:
    ValueError: for an unknown generation.
  """
  if kind not in CHIPS:
    raise ValueError(f'{kind!r} has no slices: expected one of {", ".join(CHIPS)}')
  return [f'{kind}:{shape}' for shape in CHIPS[kind].slices]


def published_peak(kind: str) -> float | None:
  """Dense bfloat16 FLOP/s of a device by the name of its kind; None if it is not known."""
  if 'TPU' in kind:
    chip = next((CHIPS[chip] for name, chip in TPUS.items() if name in kind), None)
    return None if chip is None else chip.peak * chip.cores  # A v4 runs both cores as one device.
  return next((peak for name, peak in GPUS.items() if name in kind), None)


def libtpu() -> str | None:
  """Version of the TPU compiler that is installed, or None."""
  try:
    return importlib.metadata.version('libtpu')
  except importlib.metadata.PackageNotFoundError:
    return None


@functools.cache
def described(name: str) -> list[jax.Device]:
  """The devices of a TPU slice, for the compiler alone."""
  from jax.experimental import topologies

  # The compiler's start would otherwise ask the cloud which machine this is, and wait.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  single = {} if chips(name) > 1 else {'chips_per_host_bounds': (1, 1, 1), 'num_slices': 1}
  return list(topologies.get_topology_desc(platform='tpu', topology_name=name, **single).devices)


def _this() -> Topology:
  device = jax.devices()[0]
  kind, count = device.device_kind, len(jax.devices())
  if device.platform == 'cpu':
    # Fake devices share the machine's memory and processors.
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / count
    peak = _measured() / count
  else:
    memory = (device.memory_stats() or {}).get('bytes_limit', math.inf)
    peak = published_peak(kind) or _measured()
  compiler = f'{device.platform} of jax {jax.__version__} ({kind})'
  return Topology(name=THIS, count=count, memory=memory, peak=peak, exact=True, compiler=compiler)


def _measured(size: int = 1024, rounds: int = 5) -> float:
  """FLOP/s of a float32 product, the best of a few."""
  x = jnp.ones((size, size))
  times = []
  for _ in range(rounds):
    began = time.perf_counter()
    jax.block_until_ready(x @ x)
    times.append(time.perf_counter() - began)
  return 2 * size**3 / min(times)
