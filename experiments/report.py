"""Writes the pages of `results` from the JSON in `results/runs`: `python -m experiments.report`.

`README.md` is the index; each table and figure of the paper has a page and, where there are numbers
to draw, a picture. A picture whose numbers have not changed is left as it is; `--redraw` draws all.

`--add=DIR`, which may be repeated, first copies the `result.json` of a run directory to
`results/runs`, named by task, model and directory; from a sweep's folder it copies those of all
runs, from an analysis its JSON. Absolute paths in them are cut to their last part. `--latex=DIR`
also writes the tables of each page as LaTeX, for `booktabs`.
"""

from pathlib import Path

from absl import flags

from configs import compare, low_data, matrices, rank
from experiments import _cli
from lora_jax.report import archive, commands, document, latex, pages, runs
from lora_jax.result_schema import RunResult
from lora_jax.train import paths, writers

ADD = flags.DEFINE_multi_string('add', [], 'Run, sweep or analysis to keep; may be repeated.')
FOLDER = flags.DEFINE_string('folder', 'results', 'Folder of `runs` and of the pages.')
LATEX = flags.DEFINE_string('latex', '', 'Folder to write the tables to as LaTeX.')
REDRAW = flags.DEFINE_bool('redraw', False, 'Draw every picture anew.')


def main() -> None:
  folder = Path(FOLDER.value)
  for directory in ADD.value:
    for name, found in archive.collect(paths.path_of(directory)):
      writers.write_json(folder / 'runs' / f'{name}.json', found)
  made = pages.make(recorded(folder / 'runs'))
  written = document.write(made, folder, REDRAW.value)
  if LATEX.value:
    written += latex.write(made, Path(LATEX.value))
  print('\n'.join(map(str, written)))


def recorded(folder: Path) -> runs.Recorded:
  """As `runs.read`, with the `overrides` by which the runs of sweeps differ from their configs.

  Raises:
    ValueError: as `runs.read`; naming a file whose task or preset its config file does not know.
  """
  found = runs.read(folder)
  for name, run in found.runs.items():
    config = config_of_sweep(run)
    try:
      run['overrides'] = commands.overrides(run, config) if config else ''
    except ValueError as error:
      raise ValueError(f'{folder / name}: not a run of the configs here: {error}') from error
  return found


def config_of_sweep(run: RunResult) -> commands.Config | None:
  """The config file whose sweep trained a run; None for a run of another config."""
  if (run['experiment'], run['preset']) == compare.KIND:
    return compare
  sweeps = {'rank': rank, 'matrices': matrices, 'low_data': low_data}
  return sweeps.get(run['experiment'])


if __name__ == '__main__':
  _cli.run(main)
