"""The command lines that run what the paper has and what is missing beside our runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Protocol

from lora_jax.paper import entries, printed, translation
from lora_jax.report import grids, runs
from lora_jax.result_schema import RunResult

CONFIGS = {'2': 'glue', '3': 'e2e', '13': 'dart', '14': 'webnlg'}
PLAN = (
  'python -m experiments.plan --config=configs/gpt3.py:task=samsum,model=gpt3-175b,method=lora '
  '--topology=v5e:8x8'
)
SWEEP_ON_ACCELERATOR = (
  'python -m experiments.bench --parts=sweep --model=roberta-base --rows=16 --length=64 '
  '--members=16 --dtype=bfloat16 --out=results/runs/bench-sweep.json'
)


class Config(Protocol):
  """A config file."""

  def get_config(self, arg: str | None = None) -> _Json: ...
  def sweep(self, arg: str | None = None) -> Iterator[Mapping[str, object]]: ...


class _Json(Protocol):
  def to_json(self) -> str: ...


def argument(entry: entries.Entry) -> str:
  """What picks an entry's settings in a config's argument; '' if the paper quotes it."""
  if entry.quoted:
    return ''
  parts = [f'method={entry.method}']
  if 'bottleneck' in entry.options:
    parts.append(f'bottleneck={entry.options["bottleneck"]}')
  return ','.join(parts + ['preset=adapter_setup'] * entry.adapter_setup)


def of_entry(entry: entries.Entry) -> str:
  """The command of a row of table 2 (for the TASK to be filled in), 3, 13 or 14."""
  task, folder = ('task=TASK,', '-TASK') if entry.table == '2' else ('', '')
  config = f'{CONFIGS[entry.table]}.py:{task}model={entry.model},{argument(entry)}'
  name = [entry.table, entry.model, entry.method, f'{printed.millions(entry.printed):g}']
  name += ['adapter_setup'] * entry.adapter_setup
  return (
    f'python -m experiments.train --config=configs/{config} --config.data.dir=DIR '
    f'--config.seed=SEED --workdir=runs/table-{"-".join(name)}{folder}-SEED'
  )


def table_4() -> list[str]:
  """The rows of table 4 on GPT-2 XL, for the TASK to be filled in."""
  methods = [row.method for row in entries.TABLE_4]
  lines = []
  for i, method in enumerate(methods):
    size = ('low', 'high')[methods[:i].count(method)] if methods.count(method) > 1 else ''
    lines.append(_gpt3(f'4-{i}', f'method={method}' + (f',size={size}' if size else '')))
  return lines


def table_5() -> list[str]:
  """The columns of table 5 on GPT-2 XL."""
  return [_lora(f'5-{_letters(w)}-{r}', w, r) for w, r in entries.TABLE_5.items()]


def table_6() -> list[str]:
  """The rows of table 6 on GPT-2 XL, for the RANK to be filled in."""
  return [_lora(f'6-{_letters(w)}-RANK', w, 'RANK') for w in entries.WEIGHTS_OF_TABLE_6]


def table_15() -> list[str]:
  """The rows of table 15 on GPT-2 XL."""
  lines = []
  for i, (row, texts) in enumerate(zip(entries.TABLE_15, printed.TABLES['15'].rows, strict=True)):
    sizes = [
      f' --config.method.{field}={row.options[field]}'
      for field in ('bottleneck', 'prefix', 'infix')
      if field in row.options
    ]
    if adapted := entries.weights_and_rank(texts['setting']):
      lines.append(_lora(f'15-{i}', *adapted, method=row.method, flags=''.join(sizes)))
    else:
      lines.append(_gpt3(f'15-{i}', f'method={row.method}', flags=''.join(sizes)))
  return lines


def table_16() -> list[str]:
  """The rows of table 16 on GPT-2 XL, for the EXAMPLES to be filled in."""
  lines = []
  for row in printed.TABLES['16'].rows:
    method = translation.METHODS[row['method']]
    size = ',size=high' if method == 'lora' else ''
    arg = f'method={method}{size},examples=EXAMPLES'
    lines.append(_gpt3(f'16-{method}-EXAMPLES', arg, task='mnli_text'))
  return lines


def ablation(config: str, arg: str = 'task=cola,model=path/to/encoder,preset=small') -> str:
  """The command of a sweep of an ablation."""
  return (
    f'python -m experiments.sweep --config=configs/{config}.py:{arg} '
    f'--workdir=runs/{config} --config.data.dir=DIR'
  )


TABLE_18 = ablation('rank', 'task=e2e,model=gpt2-medium')


def argument_of_run(run: RunResult, **more: str) -> str:
  """The argument of the config file by which a run's sweep was named.

  A model's folder is not known on another machine: it is written `path/to/NAME`.
  """
  name = runs.model_name(run)
  model = name if name in translation.MODELS.values() else f'path/to/{name}'
  values = {'task': run['task'], 'model': model, 'preset': run['preset'], **more}
  return ','.join(f'{key}={value}' for key, value in values.items() if value)


def complete(run: RunResult, config: str, **more: str) -> str:
  """The command that trains what is missing beside a run; finished runs are not repeated.

  Args:
    run: with the `overrides` by which it differs from what the config file says.
    config: the file's name.
    more: further keys of its argument.
  """
  return (
    f'python -m experiments.sweep --config=configs/{config}.py:{argument_of_run(run, **more)} '
    f'--workdir=runs/{config}-{run["task"]} --config.data.dir=DIR{run.get("overrides", "")}'
  )


def overrides(run: RunResult, config: Config) -> str:
  """The flags by which a sweep's run differs from its config file, ` --config.data.limit=100`.

  Without them a run that is trained later would not fit into the same column or grid.
  """
  arg = argument_of_run(run)
  default = runs.leaves(json.loads(config.get_config(arg).to_json()))
  varied = (*grids.LABELS, *next(iter(config.sweep(arg))))
  return ''.join(
    f' --config.{name}={value}'
    for name, value in runs.leaves(run['config']).items()
    if value != default.get(name, value)
    and not any(f'{name}.'.startswith(f'{other}.') for other in varied)
  )


def _gpt3(name: str, arg: str, task: str = 'TASK', flags: str = '') -> str:
  """The command of a row of GPT-3 on the largest model of its kind whose weights are published."""
  folder = f'runs/table-{name}' + ('-TASK' if task == 'TASK' else '')
  return (
    f'python -m experiments.train --config=configs/gpt3.py:task={task},model=gpt2-xl,{arg}{flags} '
    f'--config.data.dir=DIR --workdir={folder}'
  )


def _lora(name: str, weights: str, rank: int | str, method: str = 'lora', flags: str = '') -> str:
  """LoRA on the paper's matrices; alpha is the rank, as in the config."""
  adapted = f' --config.method.rank={rank} --config.method.alpha={rank}'
  adapted += f' --config.method.targets="(\'{translation.targets(weights)[0]}\',)"'
  return _gpt3(name, f'method={method}', flags=adapted + flags)


def _letters(weights: str) -> str:
  return weights.replace('W', '').replace(',', '')
