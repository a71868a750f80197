"""What the results keep of a finished run, sweep or analysis: its JSON without local folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from lora_jax import files
from lora_jax.report import runs
from lora_jax.result_schema import RunResult

ENDS = ('result.json', 'failed.json')
PATHS = ('model', 'config', 'inputs')  # What of a run's result names files.


def collect(directory: Path) -> Iterator[tuple[str, dict[str, object]]]:
  """What a directory holds to be kept, by the name of the file that it is kept in.

  A run directory's `result.json`, or the `failed.json` of one that diverged, is named by task,
  model and directory; a sweep's folder, whose name is added, holds one for each run; an analysis is
  kept as it is.

  Raises:
    ValueError: if there is nothing, nothing finished, or a run whose score is not a number.
  """
  name = directory.resolve().name
  if (directory / 'analysis.json').exists():
    analysis = files.read_object(directory / 'analysis.json')
    yield f'{name}/analysis', {key: without_folders(value) for key, value in analysis.items()}
    return
  sweep = (directory / 'sweep.json').exists()
  folders = sorted(directory.glob('*')) if sweep else [directory]
  sources = [folder / name for folder in folders for name in ENDS if (folder / name).exists()]
  if not sources:
    raise ValueError(
      f'{directory}: expected result.json, or in a sweep */result.json, or analysis.json, found '
      'none. What was started there has not finished: start it again.'
    )
  for source in sources:
    run = files.read_object(source)
    try:
      if source.name == 'result.json':
        runs.with_numbers(cast(RunResult, run))
      elif 'config' not in run:
        raise ValueError('it has no config, as an older version wrote it. Train anew')
      parts = [run['task'], Path(run['model']).name]
    except ValueError as error:
      raise ValueError(f'{source}: {error}') from error
    except (KeyError, TypeError, AttributeError) as error:
      raise ValueError(f'{source}: expected the result of a run: {error!r}') from error
    own = source.parent.resolve().name
    # Two sweeps may have runs of the same name.
    parts += [*([name] if sweep else []), own]
    run |= {key: without_folders(run[key]) for key in PATHS if key in run}
    _name_data(run)
    yield '-'.join(parts).replace('/', '_'), run


def check_same(path: Path, run: Mapping[str, object]) -> None:
  """Refuses to put a run or an analysis in the place of another one that is kept.

  Raises:
    ValueError: if the file at `path` holds a run of another config, model, seed or data, or an
      analysis of other runs.
  """
  if not path.exists():
    return
  old, new = runs.same(files.read_object(path)), runs.same(run)
  # An older version of the package may have kept it without a field of today.
  for name in [name for name in new if name in old and old[name] != new[name]]:
    raise ValueError(
      f'{path} holds another run: {name} is {old[name]!r} there and {new[name]!r} in the one to '
      'add. Rename the directory of one of the two, which names the file, or remove the file'
    )


def _name_data(run: dict[str, dict[str, dict[str, object]]]) -> None:
  """Names a user's own files by their contents, too: others may have the same names."""
  own = run.get('config', {}).get('own', {})
  for field, split in (('data', 'train'), ('dev', 'dev'), ('test', 'test')):
    digest = run.get('inputs', {}).get(f'data/{split}', {}).get('sha256')
    if own.get(field) and digest:
      own[field] = f'{own[field]} ({str(digest)[:8]})'


def without_folders(value: object) -> object:
  """JSON in which every text that is an absolute path is cut to its last part."""
  if isinstance(value, Mapping):
    return {key: without_folders(item) for key, item in value.items()}
  if isinstance(value, list):
    return [without_folders(item) for item in value]
  return Path(value).name if isinstance(value, str) and value.startswith('/') else value
