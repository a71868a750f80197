"""What LoRA learned (paper, section 7).

  python -m experiments.analyze --runs=A [--runs=B] --out=DIR

With one run directory: singular spectra and effective rank of its updates, table 7, figure 8, and
the similarity between its layers. Table 7 and figure 8 need the weights of the base, and so the
files that the run's config names; `--noweights` leaves them out.

With two, on one base: how much of each other's subspaces they learned, with two random Gaussian
matrices as a control. Runs of different ranks make figures 3 and 6, with the smaller rank first;
runs of equal rank (two seeds) make figures 4 and 7.

Writes to DIR: `analysis.json`, with what each number is and how it was obtained; pictures; for one
run, `table7.md`. Layers are counted from 0.
"""

from pathlib import Path
from typing import cast

from absl import flags

from experiments import _cli
from lora_jax.analysis import description, pair, single, sources
from lora_jax.analysis_schema import Analysis
from lora_jax.report import analysis_figures as figures
from lora_jax.train import job, paths, result, writers

RUNS = flags.DEFINE_multi_string(
  'runs', None, 'Run directory or adapter; repeat the flag to compare two.', required=True
)
OUT = flags.DEFINE_string('out', None, 'Folder for the numbers and pictures.', required=True)
LAYERS = flags.DEFINE_list(
  'layers',
  [],
  'Numbers of layers, from 0, separated by commas; empty for all, and for the middle one in the '
  'figures of a single layer.',
)
MATRICES = flags.DEFINE_list(
  'matrices', [], 'Names of matrices (query,value), separated by commas; empty for all.'
)
OF = flags.DEFINE_enum(
  'of', 'a', pair.OF, "Compare directions of A (as the paper), of B, or of the update's input."
)
WHICH = flags.DEFINE_enum('which', 'best', ['best', 'last'], 'Checkpoint of a run to analyze.')
WEIGHTS = flags.DEFINE_bool(
  'weights',
  True,
  'For a single run the weights of the base are loaded; --noweights leaves them out.',
)
BASE = flags.DEFINE_string(
  'base', '', 'Preset or model folder of the base, for adapters that do not store its architecture.'
)
ALPHA = flags.DEFINE_float('alpha', None, 'Alpha of a loralib file, which stores no scale.')
SEED = flags.DEFINE_integer('seed', 0, 'Seed of the random controls.')
OTHER_BASE = flags.DEFINE_bool('other_base', False, 'Compare runs whose configs name other bases.')


def main() -> None:
  if len(RUNS.value) not in (1, 2):
    given = ' '.join(f'--runs={run}' for run in RUNS.value)
    raise ValueError(f'{given}: expected one or two, found {len(RUNS.value)}')
  if paths.on_bucket(OUT.value):
    raise ValueError(f'--out={OUT.value}: numbers and pictures are written to a local folder')
  if wrong := [layer for layer in LAYERS.value if not layer.isdigit()]:
    raise ValueError(f'--layers: expected numbers from 0, separated by commas, found {wrong[0]!r}')
  layers = [int(layer) for layer in LAYERS.value]
  runs = [
    sources.read_adapter(source, BASE.value, ALPHA.value)
    if sources.is_adapter(source)
    else sources.read_run(source, WHICH.value)
    for source in RUNS.value
  ]
  options = dict(layers=layers, matrices=MATRICES.value, of=OF.value, seed=SEED.value)
  if len(runs) == 1:
    weights = WEIGHTS.value and not sources.is_adapter(RUNS.value[0])
    frozen = job.load_run(RUNS.value[0], WHICH.value)[0].frozen if weights else None
    measured = single.measure(runs[0].updates, frozen, **options)
  else:
    if not OTHER_BASE.value:
      sources.check_bases(*runs)
    runs.sort(key=lambda run: max(update.rank for update in run.updates))
    measured = pair.compare(runs[0].updates, runs[1].updates, **options)
  report = {
    'experiment': 'analysis',
    'kind': 'single' if len(runs) == 1 else 'pair',
    'of': OF.value,
    'control_seed': SEED.value,
    'runs': [run.facts for run in runs],
    'commit': result.commit(),
    'definitions': description.DEFINITIONS,
    'measured': description.round_floats(writers.to_json(measured)),
  }
  write(report, Path(OUT.value))


def write(report: dict[str, object], folder: Path) -> None:
  """Writes and prints the report, its pictures, and table 7 if it has one."""
  analysis = cast(Analysis, report)  # It has more keys than the pages read.
  folder.mkdir(parents=True, exist_ok=True)
  pictures = figures.draw(analysis, folder)
  report['pictures'] = [path.name for path in pictures]
  writers.write_json(folder / 'analysis.json', report)
  for line in figures.lines(analysis):
    print(line)
  if 'table7' in analysis['measured']:
    writers.write_text(folder / 'table7.md', figures.table7(analysis))
    print(figures.table7(analysis))
  print('\n'.join(map(str, [folder / 'analysis.json', *pictures])))


if __name__ == '__main__':
  _cli.run(main)
