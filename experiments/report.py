"""Writes pages of results from the JSON of runs: `python -m experiments.report --add=runs/NAME`.

`--add=DIR`, which may be repeated, first copies the `result.json` of a run directory to
`FOLDER/runs`, named by task, model and directory; from a sweep's folder it copies those of all
runs, from an analysis its JSON. Absolute paths in them are cut to their last part. `README.md` is
the first page: each method with its score and parameters. Each table and figure of the paper of
which there is a measurement has a page of its own. `report.html` is all of them in one file, with
the pictures in it.

`--folder=results` makes this project's own pages, whose index is `results/findings.toml`: what was
found, in sentences that are checked against the numbers (`lora_jax/report/findings.py`). A picture
whose numbers have not changed is left as it is; `--redraw` draws all. `--latex=DIR` also writes the
tables of each page as LaTeX, for `booktabs`.
"""

import dataclasses
from pathlib import Path

from absl import flags

from experiments import _cli
from lora_jax.report import archive, document, findings, html, latex, pages, readme, runs
from lora_jax.train import paths, writers

ADD = flags.DEFINE_multi_string('add', [], 'Run, sweep or analysis to keep; may be repeated.')
FOLDER = flags.DEFINE_string('folder', 'runs/report', 'Folder of `runs` and of the pages.')
LATEX = flags.DEFINE_string('latex', '', 'Folder to write the tables to as LaTeX.')
OWN = Path(__file__).resolve().parents[1] / 'results'  # This project's own, which README.md cites.
BASELINES = OWN / 'runs/baselines.json'
REDRAW = flags.DEFINE_bool('redraw', False, 'Draw every picture anew.')


def main() -> None:
  folder = Path(FOLDER.value)
  for directory in ADD.value:
    for name, found in archive.collect(paths.path_of(directory)):
      path = folder / 'runs' / f'{name}.json'
      archive.check_same(path, found)
      writers.write_json(path, found)
  made, found = read(folder)
  written = [*document.write(made, folder, REDRAW.value), html.write(made, folder)]
  if folder.resolve() == OWN and found:
    written.append(readme.write(OWN.parent / 'README.md', found))
  if LATEX.value:
    written += latex.write(made, Path(LATEX.value))
  print('\n'.join(map(str, written)))


def read(folder: Path) -> tuple[list[document.Page], findings.Findings | None]:
  """The pages of a folder, and what was found, if it is written down there.

  Raises:
    ValueError: as `runs.read` and `findings.read`.
    FileNotFoundError: if the folder holds no results.
  """
  recorded = runs.read(folder / 'runs')
  if not any(vars(recorded).values()):
    raise FileNotFoundError(
      f'{folder}/runs has no results. Add some by --add=DIR, a run directory that has finished, or '
      'name another folder by --folder'
    )
  if not recorded.baselines:  # They are of the official data, whoever trains on it.
    known = runs.read(BASELINES.parent, BASELINES.name).baselines
    recorded = dataclasses.replace(recorded, baselines=known)
  found = findings.read(folder / findings.NAME, recorded)
  return pages.make(recorded, found), found


if __name__ == '__main__':
  _cli.run(main)
