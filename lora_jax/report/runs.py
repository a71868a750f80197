"""The JSON files of `results/runs`, and what pages say of a run: its name, settings and machine."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lora_jax import fields
from lora_jax.analysis_schema import Analysis, AnalyzedRun
from lora_jax.result_schema import (
  Baselines,
  Bench,
  ChaosTrial,
  ClaimsPlan,
  ConfigJson,
  Counts,
  Diverged,
  Latency,
  Machine,
  MeasuredPlan,
  Origin,
  Parameters,
  RunResult,
  Trained,
)

T = TypeVar('T')
LIMIT = 'data.limit'
# Labels, where files lie, what is saved, how runs are grouped and on how many devices change no
# score; all kernels of attention compute the same, and which one a device takes is no setting of a
# method.
PLACES = (
  *('data.dir', 'data.tokenizer', 'model.name', 'model.attention', 'model.scan', 'sweep.width'),
  *('train.log_every', 'checkpoint.every_steps', 'checkpoint.keep'),
  *('mesh.data', 'mesh.fsdp', 'mesh.tensor'),
)
LABELS = ('seed', 'experiment', 'paper_table', *PLACES)
# What runs of one row of a table agree in, beside their config.
SHARED = ('task', 'method', 'preset', 'metric')


@dataclass(frozen=True)
class Recorded:
  """The files of a folder by what they hold, and by their paths in the folder."""

  runs: dict[str, RunResult] = field(default_factory=dict)
  diverged: dict[str, Diverged] = field(default_factory=dict)
  analysis: dict[str, Analysis] = field(default_factory=dict)
  latency: dict[str, Latency] = field(default_factory=dict)
  baselines: dict[str, Baselines] = field(default_factory=dict)
  bench: dict[str, Bench] = field(default_factory=dict)
  counts: dict[str, Counts] = field(default_factory=dict)
  chaos: dict[str, ChaosTrial] = field(default_factory=dict)
  claims: dict[str, ClaimsPlan] = field(default_factory=dict)
  measured_plans: dict[str, MeasuredPlan] = field(default_factory=dict)


def read(folder: str | Path, pattern: str = '*.json') -> Recorded:
  """Reads the JSON files below a folder whose names fit a pattern.

  Raises:
    ValueError: naming a file that is not valid JSON or has no `experiment`, or a run whose score is
      not a number.
  """
  recorded = Recorded()
  for path in sorted(Path(folder).rglob(pattern)):
    try:
      value = json.loads(path.read_text(encoding='utf-8'))
      of_kind = _of_kind(recorded, value)
      if of_kind is recorded.runs:
        value = with_numbers(value)
        with_defaults([value])
        _identity(value)
      elif lost := [name for name, x in leaves(value).items() if x in ('nan', 'inf', '-inf')]:
        raise ValueError(f'{lost[0]} is not a number. Remove this file, or measure it again')
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
      raise ValueError(f'{path}: expected the JSON of a run or benchmark: {error!r}') from error
    if of_kind is not None:
      of_kind[str(path.relative_to(folder))] = value
  with_defaults([*recorded.runs.values(), *recorded.diverged.values()])
  repeated = 'has the same config and seed'
  finished = without_repeated(recorded.runs, _identity, repeated)
  diverged = without_repeated(recorded.diverged, _identity, repeated)
  with_diverged(finished.values(), diverged.values())
  return dataclasses.replace(
    recorded,
    runs=finished,
    diverged=diverged,
    analysis=without_repeated(recorded.analysis, _measured, 'measures the same runs'),
  )


def with_defaults(found: Iterable[Trained]) -> None:
  """Gives configs the fields that were added after their runs, at the defaults.

  Of the options of a method, those that another run of the method has. Without this, runs of two
  commits would differ in settings that they share.
  """
  found = list(found)
  options: dict[str, set[str]] = {}
  for run in found:
    options.setdefault(run['method'], set()).update(section(run['config'], 'method'))
  for run in found:
    known = options[run['method']] & fields.METHOD.keys()
    config: dict[str, object] = {
      **fields.defaults(),
      'method': {name: fields.METHOD[name].default for name in sorted(known)},
    }
    config = json.loads(json.dumps(config))  # Tuples are lists there, as in the runs' files.
    for name, value in run['config'].items():
      default = config.get(name)
      nested = isinstance(default, Mapping) and isinstance(value, Mapping)
      config[name] = {**default, **value} if nested else value
    run['config'] = config


def with_diverged(found: Iterable[RunResult], diverged: Iterable[Diverged]) -> None:
  """Gives runs, by rate, the number of seeds of the same settings that diverged.

  Without it the one seed that did not would be the score of a rate that no one can use.
  """
  lost: dict[str, dict[float, set[int]]] = {}
  for run in diverged:
    lost.setdefault(without_rate(run), {}).setdefault(rate(run), set()).add(run['seed'])
  for run in found if lost else ():
    if by_rate := lost.get(without_rate(run)):
      run['diverged'] = {lr: len(seeds) for lr, seeds in by_rate.items()}


def with_numbers(run: RunResult) -> RunResult:
  """A run whose evaluations hold numbers: JSON has NaN and infinities as texts.

  Raises:
    ValueError: if the score of the best evaluation, or one of its texts, is not finite.
  """
  number = lambda value: float(value) if isinstance(value, str) else value
  plain = lambda entry: {name: number(value) for name, value in entry.items()}
  run = {**run, 'best': plain(run['best']), 'last': plain(run['last'])}
  run['history'] = [plain(entry) for entry in run['history']]
  results = {
    run['metric']: run['best'][run['metric']],
    **run.get('generated', {}).get('scores', {}),
  }
  if wrong := {name: value for name, value in results.items() if not math.isfinite(float(value))}:
    raise ValueError(f'{wrong}: not a result. Remove this run, or train it again')
  return run


def without_repeated(
  found: Mapping[str, T], identity: Callable[[T], str], why: str
) -> dict[str, T]:
  """The files by name, of each identity the first; one that is left out is named in the log.

  Two copies of one run are no two seeds.
  """
  first: dict[str, str] = {}
  for name, one in found.items():
    kept = first.setdefault(identity(one), name)
    if kept != name:
      logging.warning('%s is left out: it %s as %s', name, why, kept)
  return {name: found[name] for name in first.values()}


def _identity(run: Trained) -> str:
  """The config and the seed of a run, without the places of its files."""
  return json.dumps(same({**run, 'model': model_name(run)}), sort_keys=True)


def same(found: Mapping[str, object]) -> dict[str, object]:
  """What two files of results agree in that hold the same run, or analyze the same runs."""
  config = found.get('config')
  if not isinstance(config, Mapping):
    return {name: found.get(name) for name in ('experiment', 'kind', 'of')}
  shared = {name: found.get(name) for name in ('experiment', 'task', 'model', 'method', 'seed')}
  own = {key: value for key, value in leaves(config).items() if key not in PLACES}
  return shared | {f'config.{key}': value for key, value in own.items()}


def _measured(analysis: Analysis) -> str:
  return json.dumps([analysis['kind'], analysis['of'], analysis['measured']], sort_keys=True)


def _of_kind(recorded: Recorded, value: Mapping[str, object]) -> dict[str, object] | None:
  """The files of the kind of a value; None for one that is on no page."""
  experiment, kinds = value['experiment'], vars(recorded)
  if experiment == 'plan':
    return kinds['claims'] if 'claims' in value else kinds['measured_plans']
  if experiment in ('analysis', 'baselines', 'bench', 'chaos', 'counts', 'latency'):
    return kinds[experiment]
  if 'history' not in value:
    return None
  return kinds['diverged' if 'error' in value else 'runs']


def leaves(config: ConfigJson, prefix: str = '') -> dict[str, object]:
  """The nested fields of a config by their dotted names."""
  found: dict[str, object] = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      found |= leaves(value, f'{prefix}{key}.')
    else:
      found[f'{prefix}{key}'] = value
  return found


def section(config: ConfigJson, name: str) -> ConfigJson:
  """A section of a config; empty if the config does not have it."""
  value = config.get(name, {})
  if not isinstance(value, Mapping):
    raise ValueError(f'config.{name}: expected a section, found {value!r}')
  return value


def targets(run: Trained) -> list[str]:
  """The patterns of the modules that LoRA adapts."""
  patterns = section(run['config'], 'method').get('targets', ())
  return [str(pattern) for pattern in patterns] if isinstance(patterns, list | tuple) else []


def by_seed(runs: Iterable[RunResult]) -> list[list[RunResult]]:
  """Runs in groups that differ in nothing but the seed."""
  groups: dict[str, list[RunResult]] = {}
  for run in runs:
    config = {key: value for key, value in _scored(run).items() if key != 'seed'}
    key = json.dumps([_shared(run), config], sort_keys=True)
    groups.setdefault(key, []).append(run)
  return list(groups.values())


def without_rate(run: Trained) -> str:
  """What runs agree in that differ in the learning rate and the seed alone."""
  own = _scored(run)
  config = {key: value for key, value in own.items() if key not in (*LABELS, 'optim.lr')}
  return json.dumps([_shared(run), method(run), config], sort_keys=True)


def without(run: Trained, *names: str) -> dict[str, object]:
  """The fields of a run's config by their dotted names, but for some fields and sections."""
  left = tuple(f'{name}.' for name in names)
  own = leaves(run['config'])
  return {key: value for key, value in own.items() if not f'{key}.'.startswith(left)}


def _scored(run: Trained) -> dict[str, object]:
  """The fields that a score depends on; of a classifier, which decodes nothing, not `decode`."""
  return without(run, *PLACES, *([] if run['metric'] == 'dev/loss' else ['decode']))


def rate(run: Trained) -> float:
  """The learning rate of a run."""
  return float(str(section(run['config'], 'optim')['lr']))


def settings(run: Trained, others: Sequence[Trained]) -> str:
  """What of the config tells the run from other rows of the same task, model and method.

  It also says how many examples the run was trained on, where that is not all in each of them.
  """
  alike = [
    _scored(other)
    for other in others
    if _shared(other) == _shared(run) and method_name(other) == method_name(run)
  ]
  return ', '.join(
    limit_text(value) if key == LIMIT else f'{key}={value}'
    for key, value in _scored(run).items()
    if key != 'seed'
    and (any(other.get(key) != value for other in alike) or (key == LIMIT and value))
  )


def evaluated_on(run: RunResult) -> tuple[object, ...]:
  """What tells the held-out rows of a run from those of another run of the task."""
  own, data = section(run['config'], 'own'), ()
  if own:
    data = (own['dev'],) if own.get('dev') else (own['data'], own['dev_rows'], own['dev_seed'])
  return (section(run['config'], 'eval').get('limit', 0), *data)


def limit(run: RunResult) -> int:
  """The number of training examples; 0 for all of them."""
  return int(str(section(run['config'], 'data').get('limit', 0)))


def limit_text(limit: object) -> str:
  """A limit of training examples in words."""
  return f'{limit:,} examples' if limit else 'all examples'


def passes(run: RunResult) -> str:
  """How long a run trains, and in what, if not float32: `2 epochs with batches of 32, bfloat16`."""
  train = section(run['config'], 'train')
  dtype = section(run['config'], 'model').get('dtype', 'float32')
  more = f', {dtype}' * (dtype != 'float32')
  return f'{epochs(run)} with batches of {train["batch_size"]}{more}'


def epochs(run: RunResult) -> str:
  """`1 epoch` or `2 epochs`."""
  number = section(run['config'], 'train')['epochs']
  return f'{number} epoch' + 's' * (number != 1)


def method(run: Trained) -> str:
  """The method's name; `none` of a run at rate 0, which is its base as it was."""
  rate = section(run['config'], 'optim').get('lr')
  return 'none' if rate == 0 else run['method']


def method_name(run: Trained) -> str:
  """The method's name, and for LoRA the modules that it adapts: `lora (query, value)`."""
  # A | would end an entry of a Markdown table.
  names = [pattern.rpartition('/')[2].replace('|', ', ') for pattern in targets(run)]
  return ' '.join([method(run), *names]) if method(run) != 'none' else 'base, not adapted'


def model_name(run: Trained | AnalyzedRun) -> str:
  """The last part of the model's name or folder."""
  return run['model'].rstrip('/').rpartition('/')[2]


def seeds(runs: Iterable[RunResult]) -> str:
  """`0, 1, 2`."""
  return ', '.join(map(str, sorted({run['seed'] for run in runs})))


def machines(found: Iterable[Machine]) -> str:
  """The machines of results, as `1 x cpu (2 x AMD EPYC)`."""
  return ', '.join(dict.fromkeys(map(machine, found)))


def commits(found: Iterable[Origin]) -> str:
  """The commits of runs, ten digits each."""
  return ', '.join(dict.fromkeys(one['commit'][:10] for one in found))


def parameters(counted: Parameters) -> str:
  """The trained parameters, without the task head in brackets: `222,338 (73,728)`."""
  return f'{counted["trainable"]:,} ({counted["trainable_without_head"]:,})'


def machine(found: Machine) -> str:
  """`1 x cpu (2 x x86_64)`."""
  return f'{found["device"]} ({found["cpu"]})'


def _shared(run: Trained) -> list[object]:
  values: Mapping[str, object] = dict(run)
  return [model_name(run), *(values[name] for name in SHARED)]
