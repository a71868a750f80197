"""Writes `results/README.md` and `counts.md` from `results/runs`: `python -m experiments.report`.

`--add=DIR[,DIR...]` first copies the `result.json` of run directories to `results/runs`, named by
task, model and directory.
"""

import json
import shutil
from pathlib import Path

from absl import flags

from experiments import cli
from lora_jax.report import results

ADD = flags.DEFINE_list('add', [], 'Run directories whose result is to be kept.')
FOLDER = flags.DEFINE_string('folder', 'results', 'Where `runs` and the pages are.')


def main() -> None:
  folder = Path(FOLDER.value)
  for workdir in ADD.value:
    source = Path(workdir) / 'result.json'
    if not source.exists():
      raise ValueError(f'{source}: no such file. The run has not finished: start it again.')
    run = json.loads(source.read_text())
    model = Path(run['model']).name
    target = folder / 'runs' / f'{run["task"]}-{model}-{source.parent.resolve().name}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target.with_name(target.name.replace('/', '_')))
  for name, text in results.pages(results.read(folder / 'runs')).items():
    (folder / name).write_text(text)
    print(text)


if __name__ == '__main__':
  cli.run(main)
