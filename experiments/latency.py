"""What adapters cost at inference (paper, table 1, figure 5): `python -m experiments.latency`.

Times forward passes of a GPT-2 medium without a method, with LoRA merged into it, with LoRA beside
it, and with adapters, at the table's three settings, and writes JSON. `--grid` also times adapters
of three bottlenecks over batch and length, and draws a picture in the form of figure 5 beside the
JSON. The variants take turns, trial by trial, after rounds that are not counted, so that a machine
whose speed drifts favors none.

A merged model is not timed to show that it is as fast: its compiled program equals that of the bare
model, character by character, or the command fails. Weights are random: no time depends on them.

The file is written anew after each setting. If 100 passes would take hours, limit each setting:

  python -m experiments.latency --minutes=10 --out=results/runs/latency-cpu.json
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from absl import flags

from configs import _base as configs
from experiments import _cli
from lora_jax import methods
from lora_jax.cost import latency
from lora_jax.models import presets
from lora_jax.paper import entries, settings, translation
from lora_jax.pretrained import huggingface
from lora_jax.report.pages import latency as page
from lora_jax.result_schema import LatencySetting
from lora_jax.train import mesh, result, writers

TRIALS = flags.DEFINE_integer('trials', 100, 'Timed passes at each setting.', lower_bound=2)
MINUTES = flags.DEFINE_float(
  'minutes', 0, 'Most minutes of timed passes at each setting; 0 for no limit.', lower_bound=0
)
WARM_UP = flags.DEFINE_integer('warm_up', 3, 'Passes at each setting before the timed ones.')
SETTINGS = flags.DEFINE_list(
  'settings', list(entries.TABLE_1), 'Settings of table 1 to measure, each batch x length.'
)
GRID = flags.DEFINE_boolean('grid', False, 'Also measure the grid of figure 5.')
BATCHES = flags.DEFINE_list(
  'batches', ['1', '2', '4', '8', '16', '32'], 'Batch sizes of the grid of figure 5.'
)
LENGTHS = flags.DEFINE_list('lengths', ['128', '256', '512'], 'Lengths of the grid, in tokens.')
SIZES = flags.DEFINE_list('bottlenecks', ['10', '100', '250'], 'Bottlenecks of the grid.')
MODEL = flags.DEFINE_string('model', 'gpt2-medium', 'Preset of GPT-2 that gives the shape.')
LAYERS = flags.DEFINE_integer('layers', 0, 'Number of blocks; 0 for as many as the model has.')
DTYPE = flags.DEFINE_string('dtype', 'float32', 'Dtype of weights and computation.')
OUT = flags.DEFINE_string('out', 'runs/latency.json', 'JSON file to write.')


def main() -> None:
  for setting in SETTINGS.value:
    configs.check('setting of table 1', setting, entries.TABLE_1)
  known = [name for name in presets.PRESETS if name.startswith('gpt2')]
  configs.check('model', MODEL.value, known)
  config = presets.PRESETS[MODEL.value].config
  if LAYERS.value:
    config = dataclasses.replace(config, num_layers=LAYERS.value)
  base = latency.LoadedModel(
    *huggingface.fresh_model(config, task='lm', dtype=DTYPE.value, param_dtype=DTYPE.value)
  )
  about = {
    'experiment': 'latency',
    **result.about(mesh.make_mesh(1)),
    'model': MODEL.value,
    'layers': config.num_layers,
    'dtype': DTYPE.value,
  }
  measured: dict[str, list[LatencySetting]] = {'settings': [], 'grid': []}
  for kind, found in measure(base):
    measured[kind].append(found)
    print(page.text(found), flush=True)
    writers.write_json(OUT.value, about | measured)
  if measured['grid']:
    page.draw(measured['grid'], Path(OUT.value).with_suffix('.png'))


def measure(base: latency.LoadedModel) -> Iterator[tuple[str, LatencySetting]]:
  """`settings` with what is measured at one, for each; then the same for `grid`."""
  axes = [_numbers(flag) for flag in (BATCHES, LENGTHS, SIZES)]  # Checked before anything is timed.
  passes = latency.Passes(TRIALS.value, WARM_UP.value, 60 * MINUTES.value or math.inf)
  lora = methods.make('lora', **settings.GPT2_LORA, targets=translation.QUERY_VALUE)
  adapters = {
    setting: {
      name: methods.make(name, bottleneck=size)
      for name, size in entries.ADAPTERS_OF_TABLE_1[entries.TABLE_1[setting]].items()
    }
    for setting in SETTINGS.value
  }
  for setting, rows in latency.measure_settings(base, adapters, lora, passes):
    batch, length = map(int, setting.split('x'))
    printed = entries.TABLE_1[setting]
    # The program of the merged model was compared: otherwise the command has failed.
    found = {'batch': batch, 'length': length, 'adapters': printed, 'rows': rows}
    yield 'settings', cast(LatencySetting, found | {'merged_runs_the_bare_program': True})
  if GRID.value:
    batches, lengths, sizes = axes
    grid = {
      f'{name} {size}': methods.make(name, bottleneck=size)
      for name, size in itertools.product(page.METHODS, sizes)
    }
    for batch, length, rows in latency.measure_grid(base, batches, lengths, grid, passes):
      yield 'grid', {'batch': batch, 'length': length, 'rows': rows}


def _numbers(flag: flags.FlagHolder[list[str]]) -> list[int]:
  if wrong := [item for item in flag.value if not item.isdigit() or int(item) < 1]:
    raise ValueError(f'--{flag.name}: expected whole numbers from 1 up, found {wrong}')
  return [int(item) for item in flag.value]


if __name__ == '__main__':
  _cli.run(main)
