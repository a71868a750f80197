"""Writes `results/README.md` and `counts.md` from `results/runs`: `python -m experiments.report`.

`--add=DIR[,DIR...]` first copies the `result.json` of run directories to `results/runs`, named by
task, model and directory. Of folders of this machine that it names the last part is kept.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from lora_jax.report import results
from lora_jax.train import paths

ADD = flags.DEFINE_list('add', [], 'Run directories whose result is to be kept.')
FOLDER = flags.DEFINE_string('folder', 'results', 'Where `runs` and the pages are.')


def main() -> None:
  folder = Path(FOLDER.value)
  for workdir in ADD.value:
    source = paths.path_of(workdir) / 'result.json'
    if not source.exists():
      raise ValueError(f'{source}: no such file. The run has not finished: start it again.')
    run = json.loads(source.read_text())
    model = Path(run['model']).name
    target = folder / 'runs' / f'{run["task"]}-{model}-{source.parent.resolve().name}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    run |= {name: without_folders(run[name]) for name in ('model', 'config')}
    text = json.dumps(run, indent=2, ensure_ascii=False)
    target.with_name(target.name.replace('/', '_')).write_text(text + '\n')
  for name, text in results.pages(results.read(folder / 'runs')).items():
    (folder / name).write_text(text)
    print(text)


def without_folders(value: Any) -> Any:
  """JSON with every text that is an absolute path cut to its last part."""
  if isinstance(value, Mapping):
    return {key: without_folders(item) for key, item in value.items()}
  if isinstance(value, list):
    return [without_folders(item) for item in value]
  return Path(value).name if isinstance(value, str) and value.startswith('/') else value


if __name__ == '__main__':
  cli.run(main)
