"""What LoRA learned (paper, section 7).

  python -m experiments.analyze --runs=A [--runs=B] --out=DIR

One run directory: singular spectra and effective rank of its updates, table 7, figure 8, and the
similarity between its layers. Table 7 and figure 8 need the base's weights, and so what the run's
config names; `--noweights` does without.

Two, on one base: how much of each other's subspaces they learned, with the control of two random
Gaussians. Runs of different ranks make figures 3 and 6, the smaller rank first; of equal rank (two
seeds), figures 4 and 7.

In DIR: `analysis.json`, with what each number is and how it was obtained; pictures; for one run,
`table7.md`. Layers are counted from 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from experiments import _cli
from lora_jax import tree
from lora_jax.adapters import formats
from lora_jax.analysis import factors, pair, single
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.report import analysis_figures as figures
from lora_jax.train import job, paths, result, rundir, state, writers

RUNS = flags.DEFINE_multi_string(
  'runs', None, 'Run directory or adapter; given twice, two to compare.', required=True
)
OUT = flags.DEFINE_string('out', None, 'Folder for the numbers and pictures.', required=True)
LAYERS = flags.DEFINE_list('layers', [], 'Layers, from 0, by comma. Empty: see `measured`.')
MATRICES = flags.DEFINE_list('matrices', [], 'Matrices (query,value), by comma; empty for all.')
OF = flags.DEFINE_enum(
  'of',
  'a',
  pair.OF,
  "Directions compared: of A (the paper's), of B, or of the update in its input.",
)
WHICH = flags.DEFINE_enum('which', 'best', ['best', 'last'], 'Which checkpoint.')
WEIGHTS = flags.DEFINE_bool('weights', True, "Load the weights of a single run's base.")
BASE = flags.DEFINE_string('base', '', 'Of adapters that do not say theirs: a preset or a folder.')
ALPHA = flags.DEFINE_float('alpha', None, 'Of a loralib file, which stores no scale.')
SEED = flags.DEFINE_integer('seed', 0, 'Of the random controls.')
OTHER_BASE = flags.DEFINE_bool('other_base', False, 'Compare runs whose configs name other bases.')

DIGITS = 5
DEFINITIONS = {
  'phi': '||U1[:, :i]^T U2[:, :j]||_F^2 / min(i, j), row i, column j, from 1 (equation 4)',
  'chance': 'expected phi of random subspaces, max(i, j) / dimension',
  'of': "a: U are the right-singular vectors of the paper's A (section 7.2); update: those of dW; "
  "b: the left-singular vectors of the paper's B, in the layer's output",
  'input': 'right-singular vectors of dW as the paper writes it (W x)',
  'output': 'left-singular vectors of dW as the paper writes it',
  'update': 'dW = scale * B A: alpha / r is in its norm and singular values',
  'table7': 'Frobenius norms; on_X = ||U^T W V^T|| with the top `rank` directions of X',
  'amplification': '||dW|| / on_update',
  'effective_rank': 'exp of the entropy of s / sum(s) (Roy & Vetterli 2007)',
  'stable_rank': '||dW||_F^2 / ||dW||_2^2',
}


class Run(NamedTuple):
  """What is known of a run without its data and base."""

  facts: dict[str, Any]
  updates: list[factors.Update]


def main() -> None:
  if len(RUNS.value) not in (1, 2):
    given = ' '.join(f'--runs={run}' for run in RUNS.value)
    raise ValueError(f'{given}: expected one or two, found {len(RUNS.value)}')
  if paths.on_bucket(OUT.value):
    raise ValueError(f'--out={OUT.value}: numbers and pictures are written to a local folder')
  layers = _layers(LAYERS.value)
  runs = [
    read_adapter(source) if _is_adapter(source) else read(source, WHICH.value)
    for source in RUNS.value
  ]
  options = dict(layers=layers, matrices=MATRICES.value, of=OF.value, seed=SEED.value)
  if len(runs) == 1:
    weights = WEIGHTS.value and not _is_adapter(RUNS.value[0])
    frozen = job.load_run(RUNS.value[0], WHICH.value)[0].frozen if weights else None
    measured = single.measure(runs[0].updates, frozen, **options)
  else:
    if not OTHER_BASE.value:
      check_bases(*(run.facts for run in runs))
    runs.sort(key=lambda run: max(update.rank for update in run.updates))
    measured = pair.compare(runs[0].updates, runs[1].updates, **options)
  report = {
    'experiment': 'analysis',
    'kind': 'single' if len(runs) == 1 else 'pair',
    'of': OF.value,
    'control_seed': SEED.value,
    'runs': [run.facts for run in runs],
    'commit': result.commit(),
    'definitions': DEFINITIONS,
    'measured': _rounded(writers.to_json(measured)),
  }
  folder = Path(OUT.value)
  folder.mkdir(parents=True, exist_ok=True)
  written = figures.draw(report, folder)
  report['pictures'] = [path.name for path in written]
  writers.write_json(folder / 'analysis.json', report)
  for line in figures.lines(report):
    print(line)
  if 'table7' in measured:
    writers.write_text(folder / 'table7.md', figures.table7(report))
    print(figures.table7(report))
  print('\n'.join(map(str, [folder / 'analysis.json', *written])))


def read(workdir: str, which: str) -> Run:
  """A run's updates and what they came from; neither its data nor its base is read.

  Raises:
    ValueError: if the folder is no run, has no such checkpoint, or its method has no factors.
  """
  config = rundir.read_config(workdir)
  folder = paths.path_of(workdir)
  if not (folder / 'checkpoints').is_dir():
    raise ValueError(f'{workdir} has no checkpoints. Train it first: experiments.train')
  checkpoints = state.Checkpoints(folder, config.checkpoint.keep)
  try:
    step = checkpoints.best_step() if which == 'best' else checkpoints.last_step()
    if step is None:
      raise ValueError(f'{workdir} has no {which} checkpoint. Train it first: experiments.train')
    trainable = checkpoints.restore_trainable(step)
  finally:
    checkpoints.close()
  options = config.method.to_dict()
  found = _updates(workdir, trainable, options)
  finished = folder / 'result.json'
  facts = {
    'run': folder.resolve().name,
    'which': which,
    'step': step,
    'task': config.task,
    'model': config.model.name,
    'seed': config.seed,
    **_facts(found, trainable, options),
    'commit': json.loads(finished.read_text()).get('commit', '') if finished.exists() else '',
  }
  if config.model.name == 'fresh':  # Another seed or shape is another base.
    facts['fresh'] = {'seed': config.seed, **config.model.fresh.to_dict()}
  return Run(facts, found)


def read_adapter(source: str) -> Run:
  """As `read`, of an adapter in any format; of its base only the architecture is needed.

  Raises:
    ValueError, FileNotFoundError: as `formats.read_adapter`; if its method has no factors.
  """
  known = BASE.value in presets.PRESETS
  config = presets.PRESETS[BASE.value].config if known else None
  if BASE.value and not known:
    config = huggingface.read_config(huggingface.locate(BASE.value))
  adapter = formats.read_adapter(source, config=config, alpha=ALPHA.value)
  found = _updates(source, adapter.trainable, adapter.method)
  facts = {
    'run': Path(source).name,
    'task': adapter.task,
    'model': BASE.value or adapter.base,
    **_facts(found, adapter.trainable, adapter.method),
  }
  return Run(facts, found)


def check_bases(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
  """Raises a ValueError if two runs' configs name different bases."""
  names = [Path(facts['model']).name for facts in (first, second)]
  fresh = [facts.get('fresh') for facts in (first, second)]
  if names[0] == names[1] and fresh[0] == fresh[1]:
    return
  what = names if names[0] != names[1] else [f'fresh, {each}' for each in fresh]
  raise ValueError(
    f'the runs are on different bases, {first["run"]} on {what[0]} and {second["run"]} on '
    f'{what[1]}: directions in one are not those in the other. If it is one base under two names, '
    'say --other_base.'
  )


def _is_adapter(source: str) -> bool:
  if paths.on_bucket(source):  # A run: adapters are read from the disk or the hub.
    return False
  path = Path(source).expanduser()
  return source.startswith(formats.HUB) or path.is_file() or any(path.glob('adapter*.json'))


def _updates(source: str, trainable: Any, options: Mapping[str, Any]) -> list[factors.Update]:
  try:
    return factors.updates(trainable, options)
  except ValueError as error:
    raise ValueError(f'{source}: {error}') from error


def _facts(
  found: list[factors.Update], trainable: Any, options: Mapping[str, Any]
) -> dict[str, Any]:
  return {
    'method': dict(options),
    'ranks': sorted({update.rank for update in found}),
    'scales': sorted({update.scale for update in found}),
    'trained': sorted({update.matrix for update in found}),
    'parameters': sum(update.a.size + update.b.size for update in found),
    'leaves': len(tree.paths(trainable)),
  }


def _layers(given: list[str]) -> list[int]:
  if wrong := [layer for layer in given if not layer.isdigit()]:
    raise ValueError(f'--layers: {wrong[0]!r} is no layer; expected numbers from 0, by comma')
  return [int(layer) for layer in given]


def _rounded(value: Any) -> Any:
  """Floats to `DIGITS` significant digits: what a picture or a table can use."""
  if isinstance(value, dict):
    return {key: _rounded(item) for key, item in value.items()}
  if isinstance(value, list):
    return [_rounded(item) for item in value]
  return float(f'{value:.{DIGITS}g}') if isinstance(value, float) else value


if __name__ == '__main__':
  _cli.run(main)
