"""The price of adapters at inference (paper, table 1, figure 5): `python -m experiments.latency`.

Times forward passes of a GPT-2 medium as it is, with LoRA merged into it, with LoRA beside it, and
with adapters, at the table's three settings, and writes JSON. With `--grid` also adapters of three
bottlenecks over batch and length, and a picture in the form of figure 5 beside the JSON. Every
trial is waited for; the variants take turns, trial by trial, after rounds that are not counted, so
that a machine whose speed drifts favours none.

A merged model is not timed to show that it is as fast: its compiled program is that of the bare
model, to the letter, or the command fails. Weights are random: no time depends on them.

The file is written anew after each setting. Where 100 passes of a large batch would take hours, let
each setting have as many as fit in some minutes:

  python -m experiments.latency --minutes=10 --out=results/runs/latency-cpu.json
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from configs import _base as configs
from experiments import _cli
from lora_jax import methods
from lora_jax.cost import latency
from lora_jax.models import presets
from lora_jax.paper import entries, translation
from lora_jax.pretrained import huggingface
from lora_jax.report.pages import latency as page
from lora_jax.train import mesh, result, writers

TRIALS = flags.DEFINE_integer('trials', 100, 'Timed passes of each variant.', lower_bound=2)
MINUTES = flags.DEFINE_float(
  'minutes', 0, 'Of timed passes at a setting, or fewer trials; 0: no limit.', lower_bound=0
)
WARM_UP = flags.DEFINE_integer('warm_up', 3, 'Passes before them that are not counted.')
SETTINGS = flags.DEFINE_list('settings', list(entries.TABLE_1), 'Of table 1: batch x length.')
GRID = flags.DEFINE_boolean('grid', False, 'Also measure the grid of figure 5.')
BATCHES = flags.DEFINE_list('batches', ['1', '2', '4', '8', '16', '32'], 'Of the grid.')
LENGTHS = flags.DEFINE_list('lengths', ['128', '256', '512'], 'Of the grid, in tokens.')
SIZES = flags.DEFINE_list('bottlenecks', ['10', '100', '250'], 'Of the grid.')
MODEL = flags.DEFINE_string('model', 'gpt2-medium', 'Shape: a preset of GPT-2.')
LAYERS = flags.DEFINE_integer('layers', 0, 'Blocks; 0: as many as the model has.')
DTYPE = flags.DEFINE_string('dtype', 'float32', 'Of weights and computation.')
OUT = flags.DEFINE_string('out', 'results/runs/latency.json', 'JSON file to write.')


def settings_of_table_1(
  base: latency.Base, settings: Sequence[str], passes: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
  """Each setting with the times of its variants."""
  lora = methods.make('lora', **settings.GPT2_LORA, targets=translation.QUERY_VALUE)
  for setting in settings:
    batch, length = map(int, setting.split('x'))
    ids = tokens(base, batch, length)
    printed = entries.TABLE_1[setting]
    adapters = {
      name: methods.make(name, bottleneck=size)
      for name, size in entries.ADAPTERS_OF_TABLE_1[printed].items()
    }
    variants = latency.compare(base, ids, lora, adapters)
    yield {
      'batch': batch,
      'length': length,
      'adapters': printed,
      'merged_runs_the_bare_program': True,  # Or `compare` had failed.
      'rows': latency.timed(variants, ids, **passes),
    }


def grid_of_figure_5(
  base: latency.Base, batches: Sequence[int], lengths: Sequence[int], sizes: Sequence[int],
  passes: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:  # fmt: skip
  """Each batch and length, with the times of both adapters of each bottleneck."""
  for length, batch in itertools.product(lengths, batches):
    ids = tokens(base, batch, length)
    variants = {'bare': latency.bare(base, ids)}
    for name, size in itertools.product(page.METHODS, sizes):
      method = methods.make(name, bottleneck=size)
      variants[f'{name} {size}'] = latency.beside(base, ids, method)
    rows = latency.timed(variants, ids, **passes)
    yield {'batch': batch, 'length': length, 'rows': rows}


def tokens(base: latency.Base, batch: int, length: int) -> jax.Array:
  """Random ids [batch, length] of the model's vocabulary."""
  random = np.random.default_rng(0)
  return jnp.asarray(random.integers(0, base.model.config.vocab_size, (batch, length)), jnp.int32)


def main() -> None:
  for setting in SETTINGS.value:
    configs.check('setting of table 1', setting, entries.TABLE_1)
  known = [name for name in presets.PRESETS if name.startswith('gpt2')]
  configs.check('model', MODEL.value, known)
  config = presets.PRESETS[MODEL.value].config
  if LAYERS.value:
    config = dataclasses.replace(config, num_layers=LAYERS.value)
  base = latency.Base(
    *huggingface.fresh_model(config, task='lm', dtype=DTYPE.value, param_dtype=DTYPE.value)
  )
  axes = [_numbers(flag) for flag in (BATCHES, LENGTHS, SIZES)] if GRID.value else None
  limit = 60 * MINUTES.value or math.inf
  passes = dict(trials=TRIALS.value, warm_up=WARM_UP.value, limit=limit)

  about = {
    'experiment': 'latency',
    **result.about(mesh.make_mesh(1)),
    'model': MODEL.value,
    'layers': config.num_layers,
    'dtype': DTYPE.value,
  }
  measured = {'settings': [], 'grid': []}
  table = settings_of_table_1(base, SETTINGS.value, passes)
  grid = grid_of_figure_5(base, *axes, passes) if axes else ()
  for kind, some in ('settings', table), ('grid', grid):
    for found in some:
      measured[kind].append(found)
      print(page.text(found), flush=True)
      writers.write_json(OUT.value, about | measured)
  if axes:
    page.draw(measured['grid'], Path(OUT.value).with_suffix('.png'))


def _numbers(flag: Any) -> list[int]:
  if wrong := [item for item in flag.value if not item.isdigit() or int(item) < 1]:
    raise ValueError(f'--{flag.name}: expected whole numbers from 1 up, found {wrong}')
  return [int(item) for item in flag.value]


if __name__ == '__main__':
  _cli.run(main)
