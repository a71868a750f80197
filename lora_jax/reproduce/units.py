"""What one command trains of a table: a run, the runs of a sweep, an analysis of runs."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from ml_collections import ConfigDict

from lora_jax.errors import nearest
from lora_jax.sweep import grouping

NOTHING: Mapping[str, object] = MappingProxyType({})


class Config(Protocol):
  """A config file."""

  def get_config(self, arg: str | None = None) -> ConfigDict: ...
  def sweep(self, arg: str | None = None) -> Iterator[Mapping[str, object]]: ...


class Choice(NamedTuple):
  """What is asked of a table.

  Attributes:
    model: another base than the paper's; '' is the paper's own.
    tasks, methods: some of the table's; () is all.
    seeds: how many, from 0 up; 0 is the table's own number.
    tiny: toy runs of seconds.
    paper: a later paper whose rows of the table are trained (`later.PAPERS`); '' is LoRA's.
  """

  model: str = ''
  tasks: tuple[str, ...] = ()
  methods: tuple[str, ...] = ()
  seeds: int = 0
  tiny: bool = False
  paper: str = ''

  def argument(self, **values: str) -> str:
    """The argument of a config file: what has a value, in order."""
    given = values | ({'tiny': 'true'} if self.tiny else {})
    return ','.join(f'{key}={value}' for key, value in given.items() if value)


class Select(NamedTuple):
  """The run that an analysis reads: by its rank and its seed."""

  rank: int
  seed: int


class Unit(NamedTuple):
  """What one command trains or measures.

  Attributes:
    name: its folder in the workdir. It is a run directory, a sweep's folder or an analysis.
    label: the row of the table.
    command: `train`, `sweep`, `analyze` or `latency`.
    config: the config file's name.
    arg: the config's argument.
    fields: what the command changes of the config.
    seed: of its runs.
    selects: the runs that an analysis reads.
    starts_from: the unit whose adapter its run starts from.
    flags: further flags of the command.
    part: the units of one part are trained by one shard.
    why_not: why it cannot be run; '' if it can.
    waits: what it needs to be known, which other units find; '' for nothing.
  """

  name: str
  label: str
  command: str = 'train'
  config: str = ''
  arg: str = ''
  fields: Mapping[str, object] = NOTHING
  seed: int = 0
  selects: tuple[Select, ...] = ()
  starts_from: str = ''
  flags: tuple[str, ...] = ()
  part: str = ''
  why_not: str = ''
  waits: str = ''


def with_seeds(rows: Sequence[Unit], count: int) -> list[Unit]:
  """Each row with the seeds 0 to `count` - 1, all rows with one seed before any with the next.

  A row's `{seed}` in name and argument is filled in; one that cannot be run stands there once.
  """
  filled = []
  for seed in range(count):
    for row in rows:
      if row.why_not and seed:
        continue
      name, arg = (text.replace('{seed}', str(seed)) for text in (row.name, row.arg))
      filled.append(row._replace(name=name, arg=arg, seed=seed, part=row.part or name))
  return filled


def runs_of(
  unit: Unit, configs: Mapping[str, Config], given: Mapping[str, object]
) -> dict[str, ConfigDict]:
  """The configs of a unit's runs by their folders in the workdir; {} for an analysis.

  Args:
    unit: the unit.
    configs: the config files by name.
    given: fields that the user gives to all runs.

  Raises:
    ValueError: as the config file; for a field that the config does not have, with the nearest, or
      one that the table sets itself.
  """
  if unit.command not in ('train', 'sweep') or unit.waits:
    return {}
  file = configs[unit.config]
  config = copy.deepcopy(file.get_config(unit.arg))
  update(config, {**given, **unit.fields}, unit.label)
  if unit.command == 'train':
    config.seed = unit.seed
    runs = {unit.name: config}
  else:
    members = grouping.members(config, file.sweep(unit.arg))
    runs = {f'{unit.name}/{member.name}': member.config for member in members}
  expected = copy.deepcopy(config)
  update(expected, given, unit.label)
  for key, run in ((key, run) for run in runs.values() for key in given):
    if _at(run, key) != _at(expected, key):
      raise ValueError(f'--set={key}: the runs of {unit.label!r} differ in this field themselves')
  return runs


def _at(config: ConfigDict, key: str) -> object:
  found: object = config
  for name in key.split('.'):
    found = found.get(name) if isinstance(found, ConfigDict) else None
  return found


def update(config: ConfigDict, fields: Mapping[str, object], label: str) -> None:
  """Sets fields of a config by their dotted names.

  Raises:
    ValueError: for one that it does not have, or a value of another type.
  """
  for key, value in fields.items():
    holder, *names = config, *key.split('.')
    for place, name in enumerate(names):
      if not isinstance(holder, ConfigDict) or name not in holder:
        inside = holder if isinstance(holder, ConfigDict) else ()
        known = ['.'.join([*names[:place], x]) for x in inside]
        raise ValueError(f'{label}: its config has no field {key!r}. {nearest(key, known)}')
      holder = holder[name]
    try:
      config.update_from_flattened_dict({key: value})
    except (TypeError, ValueError) as error:
      raise ValueError(f'{label}: config.{key}={value!r}: {error}') from error


def parse_fields(texts: Sequence[str]) -> dict[str, object]:
  """The fields of `--set=data.limit=4000 --set=model.dtype=bfloat16`, by their dotted names.

  Raises:
    ValueError: for a text without `=`.
  """
  fields: dict[str, object] = {}
  for text in texts:
    key, equals, value = text.partition('=')
    if not equals or not key:
      raise ValueError(f'--set={text}: expected field=value, as data.limit=4000')
    try:
      fields[key] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      fields[key] = value
  return fields


def command_line(
  unit: Unit,
  runs: Mapping[str, ConfigDict],
  given: Mapping[str, object],
  configs: str,
  workdir: str,
) -> list[str]:
  """The arguments of `python -m` that train a unit.

  Args:
    unit: the unit.
    runs: of the whole table, by their folders; an analysis selects among them.
    given: fields that the user gives to all runs.
    configs: the folder of the config files.
    workdir: of the table.
  """
  where = f'{workdir}/{unit.name}'
  if unit.command == 'latency':
    return ['experiments.latency', f'--out={where}/latency.json', *unit.flags]
  if unit.command == 'analyze':
    chosen = [f'--runs={workdir}/{folder}' for folder in selected(unit, runs)]
    return ['experiments.analyze', *chosen, f'--out={where}', *unit.flags]
  seed = {'seed': unit.seed} if unit.command == 'train' else {}
  start = {'init_adapter': f'{workdir}/{unit.starts_from}'} if unit.starts_from else {}
  fields = {**given, **unit.fields, **start, **seed}
  return [
    f'experiments.{unit.command}',
    f'--config={configs}/{unit.config}.py:{unit.arg}',
    f'--workdir={where}',
    *(f'--config.{key}={value}' for key, value in fields.items()),
  ]


def selected(unit: Unit, runs: Mapping[str, ConfigDict]) -> list[str]:
  """The folders of the runs that an analysis reads.

  Raises:
    ValueError: if the table has no such run.
  """
  found = []
  for wanted in unit.selects:
    folders = [
      folder
      for folder, config in runs.items()
      if (config.method.get('rank'), config.seed) == (wanted.rank, wanted.seed)
    ]
    if not folders:
      raise ValueError(f'{unit.name}: no run of rank {wanted.rank} and seed {wanted.seed}')
    found.append(folders[0])
  return found
