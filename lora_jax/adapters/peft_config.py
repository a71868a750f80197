"""PEFT's adapter_config.json: the modules with factors, their ranks and alphas, what is saved."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

from lora_jax import files, provenance
from lora_jax.adapters.adapter import Options
from lora_jax.adapters.parts import Pair
from lora_jax.errors import listed

Number = TypeVar('Number', int, float)

BIASES = {'none': 'none', 'adapted': 'lora_only', 'all': 'all'}  # Option of `lora` -> PEFT's.
DEFAULTS = {  # Fields that are read, with their values in a config that lacks them.
  'peft_type': 'LORA',
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
  'use_dora': False,
  'modules_to_save': None,
  'task_type': None,
  'base_model_name_or_path': '',
  'projection_prng_key': 0,
  'save_projection': True,
}
# Fields about training or the layout of weights, which do not change what is computed.
IGNORED = [
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
  'corda_config',
  'megatron_core',
  'qalora_group_size',
  'lora_ga_config',
]
# Fields of LoRA that VeRA lacks, the fields of where its vectors start, and its rank by default.
OF_LORA = (
  'lora_alpha',
  'rank_pattern',
  'alpha_pattern',
  'use_rslora',
  'lora_dropout',
  'init_lora_weights',
  'use_dora',
)
START_OF_VERA = ('d_initial', 'init_weights')
RANK_OF_VERA = 256
HEADS = ('classifier', 'score')  # What PEFT saves of a model for SEQ_CLS.
# Initializations that leave the base as it is (mica's B is frozen, its A begins at zero), and
# beginnings of those that subtract something from it or, as loftq, quantize it.
PLAIN_INITS = ('gaussian', 'eva', 'orthogonal', 'mica')
BASE_INITS = ('pissa', 'olora', 'corda', 'loftq', 'lora_ga')


class PeftConfig(TypedDict):
  """The fields of adapter_config.json that decide what is computed, VeRA's by LoRA's names."""

  peft_type: str
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
  use_dora: bool
  modules_to_save: list[str] | None
  task_type: str | None
  base_model_name_or_path: str
  projection_prng_key: int
  save_projection: bool


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
  fields = {
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
    'use_dora': any(pair.magnitude is not None for pair in pairs.values()),
  }
  return _to_vera(fields, method) if method['name'] == 'vera' else fields


def _to_vera(fields: Mapping[str, object], method: Options) -> dict[str, object]:
  """The fields of VeRA, given those that LoRA would have. The shared factors are stored."""
  return {name: x for name, x in fields.items() if name not in OF_LORA} | {
    'peft_type': 'VERA',
    'vera_dropout': method.get('dropout', 0.0),
    'projection_prng_key': method.get('projection_seed', 0),
    'save_projection': True,
    'd_initial': method.get('d_initial', 0.1),
    'init_weights': True,
  }


def _from_vera(values: Mapping[str, object]) -> dict[str, object]:
  """The fields of VeRA by the names of LoRA's; its scale is 1."""
  named = {'vera_dropout': 'lora_dropout'}
  found = {named.get(name, name): x for name, x in values.items() if name not in START_OF_VERA}
  rank = RANK_OF_VERA if found.get('r') is None else found['r']
  return found | {'r': rank, 'lora_alpha': rank}


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
  kind = values.get('peft_type') if isinstance(values, dict) else None
  if not isinstance(values, dict) or kind not in ('LORA', 'VERA'):
    raise ValueError(f'{path}: peft_type={kind!r}; only LORA and VERA are read')
  values = _from_vera(values) if kind == 'VERA' else values
  known = (*DEFAULTS, *IGNORED)
  problems = [f'{name}={x!r}' for name, x in values.items() if x and name not in known]
  problems += _check_inits(values)
  if kind == 'VERA' and values.get('bias', 'none') != 'none':
    problems.append(f'bias={values["bias"]!r} of VeRA')
  if problems:
    raise ValueError(f'{path}: features that this package does not compute: {listed(problems)}')
  given = {name: x for name, x in values.items() if name in DEFAULTS and x is not None}
  _check_types(DEFAULTS | given, path)
  config = cast(PeftConfig, DEFAULTS | given)
  if config['task_type'] == 'SEQ_CLS':  # PEFT adds these when it loads such an adapter.
    saved = [*(config['modules_to_save'] or ()), *HEADS]
    config['modules_to_save'] = list(dict.fromkeys(saved))
  return config


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


def _check_inits(values: Mapping[str, object]) -> list[str]:
  """The problem of an initialization that changes the base, or that PEFT does not have."""
  init = values.get('init_lora_weights')
  if init in (True, False, None):
    return []
  name = str(init).lower()
  if name in PLAIN_INITS:
    return []
  if name.startswith(BASE_INITS):
    hint = 'it changes the base: save it with path_initial_model_for_weight_conversion'
    return [f'init_lora_weights={init!r} ({hint})']
  return [f'init_lora_weights={init!r} (PEFT has {", ".join((*PLAIN_INITS, *BASE_INITS))})']


def _check_types(values: Mapping[str, Any], path: Path) -> None:
  """Raises a ValueError naming the fields of another type or range than PEFT's."""
  strings = lambda x: isinstance(x, list) and all(isinstance(item, str) for item in x)
  whole = lambda x: isinstance(x, int) and not isinstance(x, bool) and x > 0
  index = lambda x: isinstance(x, int) and not isinstance(x, bool)
  number = lambda x: _is_number(x) and x > 0
  mapping = lambda x, check: isinstance(x, dict) and all(map(check, x.values()))
  names = lambda x: x is None or isinstance(x, str) or strings(x)
  fine = {
    'r': whole,
    'lora_alpha': number,
    'lora_dropout': lambda x: _is_number(x) and 0 <= x < 1,
    'rank_pattern': lambda x: mapping(x, whole),
    'alpha_pattern': lambda x: mapping(x, number),
    'bias': lambda x: x in BIASES.values(),
    'use_rslora': lambda x: isinstance(x, bool),
    'use_dora': lambda x: isinstance(x, bool),
    'save_projection': lambda x: isinstance(x, bool),
    'projection_prng_key': index,
    'target_modules': names,
    'exclude_modules': names,
    'layers_pattern': names,
    'layers_to_transform': lambda x: (
      x is None or index(x) or (isinstance(x, list) and all(map(index, x)))
    ),
    'modules_to_save': lambda x: x is None or strings(x),
    'task_type': lambda x: x is None or isinstance(x, str),
    'base_model_name_or_path': lambda x: isinstance(x, str),
  }
  wrong = [
    f'{name}={values[name]!r:.200}' for name, check in fine.items() if not check(values[name])
  ]
  if not wrong:
    checked = cast(PeftConfig, values)
    wrong = [*_bad_layers(checked), *_bad_patterns(checked)]
  if wrong:
    raise ValueError(
      f"{path}: values that are not read, of another type than PEFT's or a scale that is not above "
      f'0: {listed(wrong)}'
    )


def _is_number(x: object) -> bool:
  return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _bad_layers(values: PeftConfig) -> list[str]:
  """Choices of layers that PEFT refuses: beside a regular expression, or a pattern alone."""
  layers, patterns = values['layers_to_transform'], values['layers_pattern']
  if isinstance(values['target_modules'], str) and (layers is not None or patterns is not None):
    return [
      f'layers_to_transform={layers!r}, layers_pattern={patterns!r} beside a target_modules '
      'that is one string'
    ]
  if patterns and layers is None:
    return [f'layers_pattern={patterns!r} without layers_to_transform']
  return []


def _bad_patterns(values: PeftConfig) -> list[str]:
  """The regular expressions that do not compile."""
  whole = [values['target_modules'], values['exclude_modules'], values['layers_pattern']]
  patterns = [x for x in whole if isinstance(x, str)]
  if isinstance(values['layers_pattern'], list):
    patterns += values['layers_pattern']
  patterns += [
    *values['rank_pattern'],
    *values['alpha_pattern'],
    *(values['modules_to_save'] or ()),
  ]
  wrong = []
  for pattern in patterns:
    try:
      re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
      wrong.append(f'{pattern!r:.200} is not a regular expression ({error})')
  return wrong
