"""Which runs of a sweep can share a program, and the groups in which they are trained."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import config_dict

from lora_jax import methods
from lora_jax.train import config_check

# Fields in which members of one program may differ: labels, and numbers that are arrays in it.
LABELS = ('experiment', 'paper_table', 'preset')
NUMBERS = (
  'seed',
  'train.epochs',
  'optim.lr',
  'optim.lora_plus',
  'optim.weight_decay',
  'optim.warmup_ratio',
)
PER_MEMBER = (*LABELS, *NUMBERS, 'optim.warmup_steps', 'init_adapter')
Config = config_dict.ConfigDict


class Member(NamedTuple):
  """One run of a sweep: the name of its run directory, and its config."""

  name: str
  config: config_dict.ConfigDict


def members(
  config: config_dict.ConfigDict, overrides: Iterable[Mapping[str, Any]]
) -> tuple[Member, ...]:
  """The runs of a sweep: the config with each of the overrides (`{'optim.lr': 1e-3}`).

  Raises:
    ValueError: if there are none, or a run has none; for a field that the config does not have, or
      two runs of one name; naming the member, as `check_config`.
  """
  found: dict[str, Member] = {}
  for override in overrides:
    if not override:  # Its run would have no name, and the sweep's own folder for its directory.
      raise ValueError("sweep: a run has no overrides. Give each run one, such as {'seed': 0}.")
    one = copy.deepcopy(config)
    try:
      one.update_from_flattened_dict(dict(override))
    except (AttributeError, KeyError, TypeError) as error:
      raise ValueError(f'sweep: {dict(override)} does not fit the config: {error}') from error
    name = ','.join(f'{key.rpartition(".")[2]}={_slug(value)}' for key, value in override.items())
    try:
      config_check.check_config(one)
    except ValueError as error:
      raise ValueError(f'sweep: {dict(override)}: {error}') from error
    if name in found:
      raise ValueError(f'sweep: two runs are named {name!r}. Give each its own overrides.')
    found[name] = Member(name, one)
  if not found:
    raise ValueError('sweep: it has no runs')
  return tuple(found.values())


def described(of: Sequence[Member], every: Sequence[Member]) -> str:
  """Some runs of a sweep in one line: `3 runs, rank=8, lr=0.001|0.003|0.01`.

  Args:
    of: the runs.
    every: all runs of the sweep; fields in which they agree are left out.
  """
  if len(of) == 1:
    return of[0].name
  own, all_runs = _values(of), _values(every)
  parts = [f'{key}={"|".join(values)}' for key, values in own.items() if len(all_runs[key]) > 1]
  return ', '.join([f'{len(of)} runs', *parts])


def _values(of: Sequence[Member]) -> dict[str, list[str]]:
  """The values of each field in the names of runs; '' where a name does not have it."""
  fields = [dict(part.split('=', 1) for part in one.name.split(',')) for one in of]
  keys = dict.fromkeys(key for one in fields for key in one)
  return {key: list(dict.fromkeys(one.get(key, '') for one in fields)) for key in keys}


def programs(of: Sequence[Member]) -> list[tuple[Member, ...]]:
  """The members by the programs that they can share, both in the order of the members."""
  found: dict[str, list[Member]] = {}
  for member in of:
    found.setdefault(_program(member.config), []).append(member)
  return list(map(tuple, found.values()))


def group(of: Sequence[Member], most: int) -> list[tuple[Member, ...]]:
  """Groups of at most `most` members that share a program, in the order of their first members.

  Members of one seed have the same batches, and so share what lies below the first adapted layer:
  a group is of one seed as long as it can be filled, and the rest of all seeds goes together. The
  groups depend on the members and on `most` alone, so every start and every machine finds the same.
  """
  groups = []
  for program in programs(of):
    seeds: dict[int, list[Member]] = {}
    for member in program:
      seeds.setdefault(member.config.seed, []).append(member)
    rest: list[Member] = []
    for alike in seeds.values():
      full = len(alike) // most * most
      groups += [tuple(alike[i : i + most]) for i in range(0, full, most)]
      rest += alike[full:]
    groups += [tuple(rest[i : i + most]) for i in range(0, len(rest), most)]
  return sorted(groups, key=lambda one: of.index(one[0]))


def identity(group: Sequence[Member]) -> str:
  """A name of these members with these configs, the same on every machine."""
  text = json.dumps([[member.name, _fields(member.config)] for member in group], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _program(config: config_dict.ConfigDict) -> str:
  """What has to be equal for two runs to share a program."""
  fields = _fields(config)
  method = methods.make(**fields['method'])
  per_member = set(PER_MEMBER)
  if config.model.name == 'fresh' and method.freezes:
    per_member.discard('seed')  # The frozen base is drawn by it.
  if config.decode.strategy == 'sample' and (config.decode.contexts or config.decode.final):
    per_member.discard('seed')  # The decoder has it built in.
  for key in [*per_member, 'sweep']:
    section, _, name = key.rpartition('.')
    (fields[section] if section else fields).pop(name, None)
  return json.dumps(fields | {'method': method.program}, sort_keys=True)


def _fields(config: config_dict.ConfigDict) -> dict[str, Any]:
  return json.loads(config.to_json_best_effort())


def _slug(value: Any) -> str:
  """A value as a part of a folder's name; of a section, its name."""
  if isinstance(value, Mapping):
    value = value.get('name', '')
  text = '+'.join(map(str, value)) if isinstance(value, tuple | list) else str(value)
  return re.sub(r'[^A-Za-z0-9._+-]+', '-', text).strip('-.') or 'none'
