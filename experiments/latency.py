"""The price of adapters at inference (paper, table 1, figure 5): `python -m experiments.latency`.

Times forward passes of a GPT-2 medium as it is, with LoRA merged into it, with LoRA beside it, and
with adapters, at the table's three settings, and writes JSON. With `--grid` also adapters of three
bottlenecks over batch and length, and a picture in the form of figure 5 beside the JSON. Every
trial is waited for; the variants take turns, trial by trial, after rounds that are not counted, so
that a machine whose speed drifts favours none.

A merged model is not timed to show that it is as fast: its compiled program is that of the bare
model, to the letter, or the command fails. Weights are random: no time depends on them.

On two cores a subset takes some minutes:

  python -m experiments.latency --settings=1x128 --trials=20 --out=results/runs/latency-cpu.json
"""

import dataclasses
import itertools
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from configs import base
from experiments import cli
from lora_jax import methods, tree
from lora_jax.checkpoints import huggingface
from lora_jax.models import presets
from lora_jax.report import latency
from lora_jax.train import mesh, result, writers

# Table 1: batch, length -> how many parameters the adapters have there.
TABLE_1 = {'32x512': '0.5M', '16x256': '11M', '1x128': '11M'}
# The bottlenecks that come nearest to them in 24 layers of width 1024; those of 11M are table 3's.
BOTTLENECKS = {
  '0.5M': {'adapter_l': 9, 'adapter_h': 5},
  '11M': {'adapter_l': 224, 'adapter_h': 112},
}

TRIALS = flags.DEFINE_integer('trials', 100, 'Timed passes of each variant.', lower_bound=2)
WARM_UP = flags.DEFINE_integer('warm_up', 3, 'Passes before them that are not counted.')
SETTINGS = flags.DEFINE_list('settings', list(TABLE_1), 'Of table 1: batch x length.')
GRID = flags.DEFINE_boolean('grid', False, 'Also measure the grid of figure 5.')
BATCHES = flags.DEFINE_list('batches', ['1', '2', '4', '8', '16', '32'], 'Of the grid.')
LENGTHS = flags.DEFINE_list('lengths', ['128', '256', '512'], 'Of the grid, in tokens.')
SIZES = flags.DEFINE_list('bottlenecks', ['10', '100', '250'], 'Of the grid.')
MODEL = flags.DEFINE_string('model', 'gpt2-medium', 'Shape: a preset of GPT-2.')
LAYERS = flags.DEFINE_integer('layers', 0, 'Blocks; 0: as many as the model has.')
DTYPE = flags.DEFINE_string('dtype', 'float32', 'Of weights and computation.')
OUT = flags.DEFINE_string('out', 'results/runs/latency.json', 'JSON file to write.')

SOURCE_LINES = r'^(FileNames|FunctionNames|FileLocations|StackFrames)\n(\d+ .*\n)*'


class Variant(NamedTuple):
  """A compiled forward pass with its parameters, and how many of them a method trained."""

  run: Any
  parameters: tuple[Any, ...]
  trained: int

  def seconds(self, ids: jax.Array) -> float:
    """Wall seconds of one pass, its logits waited for."""
    began = time.perf_counter()
    jax.block_until_ready(self.run(*self.parameters, ids))
    return time.perf_counter() - began

  def program(self) -> str:
    """What was compiled, as HLO text without the lines of source that it came from."""
    text = re.sub(r',? metadata=\{[^}]*\}', '', self.run.as_text())
    return re.sub(SOURCE_LINES, '', text, flags=re.M)


class Base(NamedTuple):
  """A model with its parameters."""

  model: Any
  params: Mapping[str, Any]


def make_base(config: presets.Config, dtype: str = 'float32') -> Base:
  """A fresh model of an architecture, without dropout."""
  return Base(*huggingface.fresh_model(config, task='lm', dtype=dtype, param_dtype=dtype))


def compiled(apply: Callable[..., jax.Array], ids: jax.Array, trained: int, *parameters) -> Variant:
  """The variant of a function of `parameters` and ids int32 [batch, length]."""
  return Variant(jax.jit(apply).lower(*parameters, ids).compile(), parameters, trained)


def bare(on: Base, ids: jax.Array) -> Variant:
  """The model as it is."""
  return compiled(_forward(on.model), ids, 0, on.params)


def adapted(on: Base, ids: jax.Array, name: str, **options: Any) -> Variant:
  """The model with a method beside it."""
  method, frozen, trainable = _split(on, ids, name, options)
  apply = methods.bind(on.model.apply, method)
  return compiled(apply, ids, tree.count(trainable), frozen, trainable)


def merged(on: Base, ids: jax.Array, name: str, **options: Any) -> Variant:
  """The model with a method folded into its weights."""
  method, frozen, trainable = _split(on, ids, name, options)
  params = method.merge(frozen, trainable)
  return compiled(_forward(on.model), ids, tree.count(trainable), params)


def _forward(model: Any) -> Callable[..., jax.Array]:
  return lambda params, ids: model.apply({'params': params}, ids)


def _split(on: Base, ids: jax.Array, name: str, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
  """The method and its parts, what is trained moved off zero as training would."""
  method = methods.make(name, **options)
  frozen, trainable = method.init(jax.random.key(0), on.model, on.params, ids)
  leaves = tree.flatten(trainable)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = {
    path: leaf + 0.01 * jax.random.normal(key, leaf.shape)
    for (path, leaf), key in zip(leaves.items(), keys)
  }
  return method, frozen, tree.unflatten(moved)


def of_table(on: Base, ids: jax.Array, adapters: str) -> dict[str, Variant]:
  """The variants of table 1, by name.

  Args:
    ids: int32 [batch, length].
    adapters: how many parameters they have, a key of BOTTLENECKS.
  """
  lora = dict(rank=4, alpha=32.0, targets=base.QUERY_VALUE)  # Table 11.
  variants = {
    'bare': bare(on, ids),
    'lora, merged': merged(on, ids, 'lora', **lora),
    'lora, beside': adapted(on, ids, 'lora', **lora),
    **{
      name: adapted(on, ids, name, bottleneck=size) for name, size in BOTTLENECKS[adapters].items()
    },
  }
  assert variants['bare'].program() == variants['lora, merged'].program(), (
    'the merged model is compiled to another program than the bare one'
  )
  return variants


def timed(variants: Mapping[str, Variant], ids: jax.Array, trials: int, warm_up: int) -> dict:
  """Milliseconds of a pass of each variant, and by how many per cent the first is faster.

  The slow-down is that of the medians: a pause of the machine is in a mean, but not in them.
  """
  times: dict[str, list[float]] = {name: [] for name in variants}
  for counted in range(-warm_up, trials):
    for name, variant in variants.items():
      passed = 1000 * variant.seconds(ids)
      if counted >= 0:
        times[name].append(passed)
  medians = {name: statistics.median(values) for name, values in times.items()}
  first = next(iter(medians.values()))
  return {
    name: {
      'mean': statistics.fmean(values),
      'sd': statistics.stdev(values),
      'median': medians[name],
      'slowdown': 100 * (medians[name] / first - 1),
      'trained': variants[name].trained,
    }
    for name, values in times.items()
  }


def tokens(on: Base, batch: int, length: int) -> jax.Array:
  """Random ids [batch, length] of the model's vocabulary."""
  random = np.random.default_rng(0)
  return jnp.asarray(random.integers(0, on.model.config.vocab_size, (batch, length)), jnp.int32)


def table(on: Base, settings: list[str], trials: int, warm_up: int) -> Iterator[dict[str, Any]]:
  """Each setting of table 1 with the times of its variants."""
  for setting in settings:
    batch, length = map(int, setting.split('x'))
    ids = tokens(on, batch, length)
    variants = of_table(on, ids, TABLE_1[setting])
    rows = timed(variants, ids, trials, warm_up)
    yield {'batch': batch, 'length': length, 'adapters': TABLE_1[setting], 'rows': rows}


def grid(
  on: Base, batches: list[int], lengths: list[int], sizes: list[int], trials: int, warm_up: int
) -> Iterator[dict[str, Any]]:
  """Each batch and length of figure 5, with the times of both adapters of each bottleneck."""
  for length, batch in itertools.product(lengths, batches):
    ids = tokens(on, batch, length)
    variants = {'bare': bare(on, ids)}
    for method, size in itertools.product(latency.METHODS, sizes):
      variants[f'{method} {size}'] = adapted(on, ids, method, bottleneck=size)
    yield {'batch': batch, 'length': length, 'rows': timed(variants, ids, trials, warm_up)}


def main() -> None:
  for setting in SETTINGS.value:
    base.check('setting of table 1', setting, TABLE_1)
  known = [name for name in presets.PRESETS if name.startswith('gpt2')]
  base.check('model', MODEL.value, known)
  config = presets.PRESETS[MODEL.value].config
  if LAYERS.value:
    config = dataclasses.replace(config, num_layers=LAYERS.value)
  on = make_base(config, DTYPE.value)
  axes = [_numbers(flag) for flag in (BATCHES, LENGTHS, SIZES)] if GRID.value else None
  counted = TRIALS.value, WARM_UP.value

  measured = []
  for found in table(on, SETTINGS.value, *counted):
    measured.append(found)
    print(latency.text(found), flush=True)
  cells = []
  for found in grid(on, *axes, *counted) if axes else ():
    cells.append(found)
    print(latency.text(found), flush=True)
  writers.write_json(
    OUT.value,
    {
      'experiment': 'latency',
      'device': mesh.device_names(mesh.make_mesh(1)),
      'cpu': f'{os.cpu_count()} x {platform.machine()}',
      'versions': result.versions(),
      'commit': result.commit(),
      'model': MODEL.value,
      'layers': config.num_layers,
      'dtype': DTYPE.value,
      'trials': TRIALS.value,
      'merged_runs_the_bare_program': True,  # Or there would be no file.
      'settings': measured,
      'grid': cells,
    },
  )
  if cells:
    latency.draw(cells, Path(OUT.value).with_suffix('.png'))


def _numbers(flag: Any) -> list[int]:
  if wrong := [item for item in flag.value if not item.isdigit() or int(item) < 1]:
    raise ValueError(f'--{flag.name}: expected whole numbers from 1 up, found {wrong}')
  return [int(item) for item in flag.value]


if __name__ == '__main__':
  cli.run(main)
