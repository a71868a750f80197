"""PEFT's adapter_config.json: the modules with factors, their ranks and alphas, what is saved."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

from lora_jax import files, provenance
from lora_jax.adapters.adapter import Options
from lora_jax.adapters.parts import Pair
from lora_jax.errors import listed
from lora_jax.pretrained import names

Number = TypeVar('Number', int, float)

BIASES = {'none': 'none', 'adapted': 'lora_only', 'all': 'all'}  # Option of `lora` -> PEFT's.
DEFAULTS = {  # Fields that are read, with their values in a config that lacks them.
  'r': 8,
  'lora_alpha': 8,
  'lora_dropout': 0.0,
  'target_modules': None,
  'exclude_modules': None,
  'layers_to_transform': None,
  'layers_pattern': None,
  'rank_pattern': {},
  'alpha_pattern': {},
  'bias': 'none',
  'use_rslora': False,
  'modules_to_save': None,
  'task_type': None,
  'base_model_name_or_path': '',
}
# Fields about training or the layout of weights, which do not change what is computed.
IGNORED = [
  'peft_type',
  'peft_version',
  'auto_mapping',
  'revision',
  'inference_mode',
  'fan_in_fan_out',
  'init_lora_weights',
  'ephemeral_gpu_offload',
  'runtime_config',
  'loftq_config',
  'eva_config',
  'megatron_core',
  'qalora_group_size',
  'lora_ga_config',
]
# Initializations that leave the base as it is; others subtract something from it.
PLAIN_INITS = (True, False, None, 'gaussian', 'eva', 'orthogonal')


class PeftConfig(TypedDict):
  """The fields of adapter_config.json that decide what is computed."""

  r: int
  lora_alpha: float
  lora_dropout: float
  target_modules: str | list[str] | None
  exclude_modules: str | list[str] | None
  layers_to_transform: int | list[int] | None
  layers_pattern: str | list[str] | None
  rank_pattern: dict[str, int]
  alpha_pattern: dict[str, float]
  bias: str
  use_rslora: bool
  modules_to_save: list[str] | None
  task_type: str | None
  base_model_name_or_path: str


def make(
  pairs: Mapping[str, Pair],
  *,
  everything: Sequence[str],
  modules_to_save: Sequence[str],
  method: Options,
  task_type: str | None,
  base_name: str,
  family: str,
) -> dict[str, object]:
  """The fields of an adapter's config.

  Args:
    pairs: the pairs of factors in the tensor file, by the module's full name.
    everything: full names of all modules that PEFT could adapt.
    modules_to_save, task_type, base_name: values of the fields.
    method: options of the adapter.
    family: the base's family.
  """
  rank, ranks = _patterns({module: pair.rank for module, pair in pairs.items()})
  alpha, alphas = _patterns({module: _number(pair.alpha) for module, pair in pairs.items()})
  return {
    'peft_type': 'LORA',
    'task_type': task_type,
    'base_model_name_or_path': base_name or None,
    'revision': None,
    'auto_mapping': None,
    'inference_mode': True,
    'r': rank,
    'lora_alpha': alpha,
    'rank_pattern': ranks,
    'alpha_pattern': alphas,
    'use_rslora': any(pair.rslora for pair in pairs.values()),
    'lora_dropout': method.get('dropout', 0.0),
    'bias': BIASES[method.get('bias', 'none')],
    'target_modules': suffixes(list(pairs), everything),
    'modules_to_save': list(modules_to_save) or None,
    'fan_in_fan_out': family == 'gpt2',
    'init_lora_weights': True,
    'layers_to_transform': None,
    'layers_pattern': None,
    'use_dora': False,
  }


def read(path: Path) -> PeftConfig:
  """The fields of a file, with `DEFAULTS` for those that it lacks.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if it is not valid JSON, or asks for features that this package does not compute,
      all by name.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path.parent}: no {path.name}. Expected an adapter of PEFT.')
  provenance.note(path)
  values = files.read_json(path)
  if not isinstance(values, dict) or values.get('peft_type') != 'LORA':
    kind = values.get('peft_type') if isinstance(values, dict) else None
    raise ValueError(f'{path}: peft_type={kind!r}; only LORA is read')
  known = (*DEFAULTS, *IGNORED)
  problems = [f'{name}={x!r}' for name, x in values.items() if x and name not in known]
  if values.get('init_lora_weights') not in PLAIN_INITS:
    problems.append(f'init_lora_weights={values["init_lora_weights"]!r} (it changes the base)')
  if problems:
    raise ValueError(f'{path}: features that this package does not compute: {listed(problems)}')
  given = {name: x for name, x in values.items() if name in DEFAULTS and x is not None}
  _check_types(DEFAULTS | given, path)
  config = cast(PeftConfig, DEFAULTS | given)
  if config['task_type'] == 'SEQ_CLS':  # PEFT adds these when it loads such an adapter.
    config['modules_to_save'] = [*(config['modules_to_save'] or ()), 'classifier', 'score']
  return config


def targets(values: PeftConfig, module: str, family: str) -> bool:
  """Whether PEFT puts factors on a module, by its plain name."""
  name = names.full_name(module, family)
  if any(re.match(rf'(^|.*\.){key}($|\..*)', name) for key in values['modules_to_save'] or ()):
    return False
  return any(
    _matches(values['target_modules'], key)
    and not _matches(values['exclude_modules'], key)
    and _in_layers(values, key)
    for key in (name, module)
  )


def saves(values: PeftConfig, name: str) -> bool:
  """Whether a module, by its full name, is trained and saved as a whole."""
  within = [name.rsplit('.', i)[0] for i in range(name.count('.') + 1)]
  return any(outer.endswith(key) for key in values['modules_to_save'] or () for outer in within)


def rank(values: PeftConfig, module: str, family: str) -> int:
  """Rank of a module's factors, by its plain name."""
  return _by_pattern(values['rank_pattern'], names.full_name(module, family), values['r'])


def alpha(values: PeftConfig, module: str, family: str) -> float:
  """Alpha of a module's factors, by its plain name."""
  full = names.full_name(module, family)
  return float(_by_pattern(values['alpha_pattern'], full, values['lora_alpha']))


def suffixes(selection: Sequence[str], everything: Iterable[str]) -> list[str]:
  """The shortest ends of names, cut at dots, that match the selected names and no other."""
  others = set(everything) - set(selection)
  found: dict[str, None] = {}
  for name in selection:
    if any(_ends(name, suffix) for suffix in found):
      continue
    parts = name.split('.')
    ends = ('.'.join(parts[i:]) for i in reversed(range(len(parts))))
    found[next(end for end in ends if not any(_ends(other, end) for other in others))] = None
  return list(found)


def _ends(name: str, suffix: str) -> bool:
  return f'.{name}'.endswith(f'.{suffix}')


def _patterns(numbers: Mapping[str, Number]) -> tuple[Number, dict[str, Number]]:
  """The most frequent number, and the other numbers by patterns of their modules."""
  ((most, _),) = collections.Counter(numbers.values()).most_common(1)
  groups = dict.fromkeys(number for number in numbers.values() if number != most)
  return most, {
    suffix: number
    for number in groups
    for suffix in suffixes([name for name, x in numbers.items() if x == number], numbers)
  }


def _number(alpha: float) -> int | float:
  """Alpha as an integer if it is whole, as PEFT writes it."""
  return int(alpha) if alpha == int(alpha) else alpha


def _by_pattern(patterns: Mapping[str, Number], name: str, default: Number) -> Number:
  for pattern, number in patterns.items():
    if re.match(rf'(.*\.)?({pattern})$', name):
      return number
  return default


def _matches(wanted: str | Sequence[str] | None, name: str) -> bool:
  """Whether a regular expression matches the whole name, or a list holds an end of it."""
  if isinstance(wanted, str):
    return re.fullmatch(wanted, name) is not None
  return any(_ends(name, end) for end in wanted or ())


def _in_layers(values: PeftConfig, name: str) -> bool:
  """Whether a module lies in the layers to transform, by the first number in its name."""
  layers, patterns = values['layers_to_transform'], values['layers_pattern']
  exact = isinstance(values['target_modules'], str) or name in (values['target_modules'] or ())
  if layers is None or layers == [] or exact:
    return True
  patterns = [patterns] if isinstance(patterns, str) else patterns or [r'[^.]*']
  found = (re.match(rf'(?:^|.*?\.){pattern}\.(\d+)\.', name) for pattern in patterns)
  index = next((match[1] for match in found if match), None)
  return index is not None and int(index) in (layers if isinstance(layers, list) else [layers])


def _check_types(values: Mapping[str, Any], path: Path) -> None:
  """Raises a ValueError naming the fields of another type or range than PEFT's."""
  strings = lambda x: isinstance(x, list) and all(isinstance(item, str) for item in x)
  whole = lambda x: isinstance(x, int) and not isinstance(x, bool) and x > 0
  number = lambda x: isinstance(x, int | float) and not isinstance(x, bool) and x > 0
  mapping = lambda x, check: isinstance(x, dict) and all(map(check, x.values()))
  fine = {
    'r': whole,
    'lora_alpha': number,
    'rank_pattern': lambda x: mapping(x, whole),
    'alpha_pattern': lambda x: mapping(x, number),
    'bias': lambda x: x in BIASES.values(),
    'target_modules': lambda x: x is None or isinstance(x, str) or strings(x),
    'exclude_modules': lambda x: x is None or isinstance(x, str) or strings(x),
    'modules_to_save': lambda x: x is None or strings(x),
  }
  wrong = [f'{name}={values[name]!r}' for name, check in fine.items() if not check(values[name])]
  patterns = [values['target_modules'], values['exclude_modules']]
  patterns = [x for x in patterns if isinstance(x, str)]
  for pattern in [*patterns, *values['rank_pattern'], *values['alpha_pattern']]:
    try:
      re.compile(pattern)
    except re.error as error:
      wrong.append(f'{pattern!r} is not a regular expression ({error})')
  if wrong:
    raise ValueError(f'{path}: values that PEFT does not write: {listed(wrong)}')
