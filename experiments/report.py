"""Writes the pages of `results` from the JSON in `results/runs`: `python -m experiments.report`.

`README.md` is the index; each table and figure of the paper has a page and, where there are numbers
to draw, a picture. A picture whose numbers have not changed is left as it is; `--redraw` draws all.

`--add=DIR`, which may be repeated, first copies the `result.json` of a run directory to
`results/runs`, named by task, model and directory; of a sweep's folder those of all its runs; of an
analysis its JSON. Of folders of this machine that they name the last part is kept. `--latex=DIR`
also writes the tables of each page as LaTeX, for `booktabs`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from configs import (
  base,
  base_ablation,
  base_glue,
  compare,
  dart,
  e2e,
  gpt3,
  low_data,
  matrices,
  rank,
  webnlg,
)
from experiments import _cli
from lora_jax.report import ablations, grids, page, pages, paper, published, results, tables
from lora_jax.train import paths, writers

ADD = flags.DEFINE_multi_string('add', [], 'Run, sweep or analysis to be kept; may be repeated.')
FOLDER = flags.DEFINE_string('folder', 'results', 'Where `runs` and the pages are.')
LATEX = flags.DEFINE_string('latex', '', 'Folder to write the tables to as LaTeX.')
REDRAW = flags.DEFINE_bool('redraw', False, 'Draw every picture anew.')

TEXTS = {
  '3': ('e2e', e2e.TABLE_3),
  '13': ('dart', dart.ROW.cells),
  '14': ('webnlg', webnlg.ROW.cells),
}
SWEEPS = {'rank': rank, 'matrices': matrices, 'low_data': low_data}
SWEEP_18 = ablations.example('rank', 'task=e2e,model=gpt2-medium')
PLAN = (
  'python -m experiments.plan --config=configs/gpt3.py:task=samsum,model=gpt3-175b,method=lora '
  '--topology=v5e:8x8'
)


def main() -> None:
  folder = Path(FOLDER.value)
  for directory in ADD.value:
    for name, found in kept(paths.path_of(directory)):
      writers.write_json(folder / 'runs' / f'{name}.json', found)
  made = pages.pages(recorded(folder / 'runs'), commands())
  written = page.write(made, folder, REDRAW.value)
  if LATEX.value:
    written += page.write_latex(made, Path(LATEX.value))
  print('\n'.join(map(str, written)))


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
  """As `results.read`; a sweep's run with the `overrides` of its command.

  Raises:
    ValueError: as `results.read`; naming a file whose task or preset its config file does not know.
  """
  found = results.read(folder)
  for name, one in found.items():
    try:
      one['overrides'] = overrides(one)
    except ValueError as error:
      raise ValueError(f'{folder / name}: not a run of the configs here: {error}') from error
  return found


def overrides(run: Mapping[str, Any]) -> str:
  """The flags by which a sweep's run differs from its config file, ` --config.data.limit=100`.

  Without them what is run later beside it would be another column or grid; '' of other JSON.
  """
  comparison = (run['experiment'], run.get('preset')) == compare.KIND
  module = compare if comparison else SWEEPS.get(run['experiment'])
  if module is None:
    return ''
  argument = grids.argument(run)
  default = tables.leaves(json.loads(module.get_config(argument).to_json()))
  varied = (*grids.APART, *next(iter(module.sweep(argument))))
  return ''.join(
    f' --config.{name}={value}'
    for name, value in tables.leaves(run['config']).items()
    if value != default.get(name, value)
    and not any(f'{name}.'.startswith(f'{other}.') for other in varied)
  )


def kept(directory: Path) -> Iterator[tuple[str, dict[str, Any]]]:
  """What a directory holds to be kept, by the name of its file.

  Raises:
    ValueError: if there is nothing, or nothing finished.
  """
  name = directory.resolve().name
  if (directory / 'analysis.json').exists():
    yield f'{name}/analysis', without_folders(json.loads((directory / 'analysis.json').read_text()))
    return
  sweep = (directory / 'sweep.json').exists()
  sources = sorted(directory.glob('*/result.json')) if sweep else [directory / 'result.json']
  if not sources or not all(source.exists() for source in sources):
    raise ValueError(
      f'{directory}: no result.json, of a sweep no */result.json, nor analysis.json. What was '
      'started there has not finished: start it again.'
    )
  for source in sources:
    run = json.loads(source.read_text())
    own = source.parent.resolve().name
    # Two sweeps may have runs of the same name.
    parts = [run['task'], Path(run['model']).name, *([run['experiment']] if sweep else []), own]
    run |= {key: without_folders(run[key]) for key in ('model', 'config')}
    yield '-'.join(parts).replace('/', '_'), run


def without_folders(value: Any) -> Any:
  """JSON with every text that is an absolute path cut to its last part."""
  if isinstance(value, Mapping):
    return {key: without_folders(item) for key, item in value.items()}
  if isinstance(value, list):
    return [without_folders(item) for item in value]
  return Path(value).name if isinstance(value, str) and value.startswith('/') else value


def commands() -> dict[str, str]:
  """The commands of the cells of the paper, by `published.key` or the table and row."""
  found = {'plan': PLAN, '18': SWEEP_18}
  for cell in base_glue.TABLE_2:
    if cell.arg:
      row = _row('2', cell, 'preset=dagger' in cell.arg)
      found[row] = _train(row, f'configs/glue.py:task=TASK,model={cell.model},{cell.arg}')
  for table, (name, cells) in TEXTS.items():
    for cell in cells:
      if cell.arg:
        row = _row(table, cell)
        found[row] = _train(row, f'configs/{name}.py:model={cell.model},{cell.arg}')
  sizes = {method: list(options) for method, (_, options) in gpt3.METHODS.items()}
  for i, row in enumerate(paper.TABLES['4'].rows):
    method = published.METHODS[row['method']]
    size = sizes[method].pop(0)  # Low, then high, as the rows are.
    found[f'4/{i}'] = _gpt3(f'4-{i}', f'method={method}' + (f',size={size}' if size else ''))
  for name, r in ablations.RANKS_OF_5.items():
    found[f'5/{name}'] = _lora('5', name, r)
  for name in ablations.WEIGHTS_OF_6:
    found[f'6/{name}'] = _lora('6', name, 'RANK')
  for i, row in enumerate(paper.TABLES['15'].rows):
    found[f'15/{i}'] = _row_15(f'15-{i}', row)
  for row in paper.TABLES['16'].rows:
    method = published.METHODS[row['method']]
    size = ',size=high' if method == 'lora' else ''
    arg = f'method={method}{size},examples=EXAMPLES'
    found[f'16/{row["method"]}'] = _gpt3(f'16-{method}-EXAMPLES', arg, 'mnli_text')
  return found


def _row(table: str, cell: base.Cell, dagger: bool = False) -> str:
  parts = [table, cell.model, cell.method, f'{paper.millions(cell.printed):g}']
  return '/'.join(parts + ['dagger'] * dagger)


def _train(row: str, config: str) -> str:
  task = '-TASK' if 'TASK' in config else ''
  return (
    f'python -m experiments.train --config={config} --config.data.dir=DIR --config.seed=SEED '
    f'--workdir=runs/table-{row.replace("/", "-")}{task}-SEED'
  )


def _gpt3(name: str, arg: str, task: str = 'TASK', flags: str = '') -> str:
  """The command of a row of GPT-3 on the largest model of its kind whose weights are published."""
  folder = f'runs/table-{name}' + ('-TASK' if task == 'TASK' else '')
  return (
    f'python -m experiments.train --config=configs/gpt3.py:task={task},model=gpt2-xl,{arg}{flags} '
    f'--config.data.dir=DIR --workdir={folder}'
  )


def _lora(name: str, weights: str, rank: int | str, method: str = 'lora', more: str = '') -> str:
  """LoRA on matrices named as the paper does; alpha is the rank, as the config has it."""
  letters = weights.replace('W', '').replace(',', '')
  targets = base_ablation.targets(letters)['method.targets'][0]
  flags = f' --config.method.rank={rank} --config.method.alpha={rank}'
  flags += f' --config.method.targets="(\'{targets}\',)"'
  folder = f'{name}-{letters}-{rank}' if name in ('5', '6') else name
  return _gpt3(folder, f'method={method}', flags=flags + more)


def _row_15(name: str, row: Mapping[str, str]) -> str:
  method = published.METHODS[row['method']]
  *matrices, last = row['setting'].split()[0].split('=')
  sizes = dict(part.split('=') for part in row['setting'].split() if part.startswith('l'))
  more = ''.join(
    f' --config.method.{field}={sizes[short]}'
    for short, field in (('lp', 'prefix'), ('li', 'infix'))
    if short in sizes
  )
  if 'lora' in method:
    return _lora(name, ','.join(f'W{name[1]}' for name in matrices), last, method, more)
  if method == 'adapter_h':
    return _gpt3(name, f'method={method}', flags=f' --config.method.bottleneck={last}')
  return _gpt3(name, f'method={method}', flags=more)


if __name__ == '__main__':
  _cli.run(main)
