"""PEFT's adapter_config.json: which modules have factors, their ranks and alphas, what is saved."""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_jax.adapters.parts import Pair, listed
from lora_jax.pretrained import names

BIASES = {'none': 'none', 'adapted': 'lora_only', 'all': 'all'}  # Here -> there.
READ = {  # Fields that are read, with what they are where they are not given.
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
# Fields that say how training went or how the weights lie, and nothing of what is computed.
IGNORED = (
  'peft_type', 'peft_version', 'auto_mapping', 'revision', 'inference_mode', 'fan_in_fan_out',
  'init_lora_weights', 'ephemeral_gpu_offload', 'runtime_config', 'loftq_config', 'eva_config',
  'megatron_core', 'qalora_group_size', 'lora_ga_config',
)  # fmt: skip
# Initialisations that leave the base as it is; others subtract something from it.
PLAIN_INITS = (True, False, None, 'gaussian', 'eva', 'orthogonal')


def make(
  pairs: Mapping[str, Pair],
  *,
  everything: Sequence[str],
  modules_to_save: Sequence[str],
  method: Mapping[str, Any],
  task_type: str | None,
  base_name: str,
  family: str,
) -> dict[str, Any]:
  """The fields for an adapter.

  Args:
    pairs: as the tensors will have them, by the module's whole name.
    everything: whole names of all modules that PEFT could adapt.
    modules_to_save, task_type, base_name: as PEFT has them.
    method: options of the adapter.
    family: of the base.
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


def read(path: Path) -> dict[str, Any]:
  """The fields of a file, with defaults for those of `READ` that it lacks.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is not JSON, or asks for something that is not computed here, all by name.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path.parent}: no {path.name}. Expected an adapter of PEFT.')
  try:
    values = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from error
  if not isinstance(values, dict) or values.get('peft_type') != 'LORA':
    kind = values.get('peft_type') if isinstance(values, dict) else None
    raise ValueError(f'{path}: peft_type={kind!r}; only LORA is read')
  problems = [
    f'{name}={value!r}' for name, value in values.items() if name not in (*READ, *IGNORED) and value
  ]
  if values.get('init_lora_weights') not in PLAIN_INITS:
    problems.append(f'init_lora_weights={values["init_lora_weights"]!r} (it changes the base)')
  if problems:
    raise ValueError(f'{path}: features that are not computed here: {listed(problems)}')
  values = {**values, **{name: x for name, x in READ.items() if values.get(name) is None}}
  if values['task_type'] == 'SEQ_CLS':  # As PEFT does when it loads one.
    values['modules_to_save'] = [*(values['modules_to_save'] or ()), 'classifier', 'score']
  _check_types(values, path)
  return values


def targets(values: Mapping[str, Any], module: str, family: str) -> bool:
  """Whether PEFT puts factors on a module, by its plain name."""
  name = names.full(module, family)
  if any(re.match(rf'(^|.*\.){key}($|\..*)', name) for key in values['modules_to_save'] or ()):
    return False
  return any(
    _matches(values['target_modules'], key)
    and not _matches(values['exclude_modules'], key)
    and _in_layers(values, key)
    for key in (name, module)
  )


def saves(values: Mapping[str, Any], name: str) -> bool:
  """Whether a module, by its whole name, is trained and saved as a whole."""
  within = [name.rsplit('.', i)[0] for i in range(name.count('.') + 1)]
  return any(outer.endswith(key) for key in values['modules_to_save'] or () for outer in within)


def rank(values: Mapping[str, Any], module: str, family: str) -> int:
  """Rank of a module's factors, by its plain name."""
  return _by_pattern(values['rank_pattern'], names.full(module, family), values['r'])


def alpha(values: Mapping[str, Any], module: str, family: str) -> float:
  """Alpha of a module's factors, by its plain name."""
  full = names.full(module, family)
  return float(_by_pattern(values['alpha_pattern'], full, values['lora_alpha']))


def suffixes(chosen: Sequence[str], everything: Iterable[str]) -> list[str]:
  """The shortest ends of names, cut at dots, that all chosen names have and no other."""
  others = set(everything) - set(chosen)
  found: dict[str, None] = {}
  for name in chosen:
    if any(_ends(name, suffix) for suffix in found):
      continue
    parts = name.split('.')
    ends = ('.'.join(parts[i:]) for i in reversed(range(len(parts))))
    found[next(end for end in ends if not any(_ends(other, end) for other in others))] = None
  return list(found)


def _ends(name: str, suffix: str) -> bool:
  return f'.{name}'.endswith(f'.{suffix}')


def _patterns(numbers: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
  """The most frequent number, and patterns of the modules that have others."""
  ((most, _),) = collections.Counter(numbers.values()).most_common(1)
  groups = dict.fromkeys(number for number in numbers.values() if number != most)
  return most, {
    suffix: number
    for number in groups
    for suffix in suffixes([name for name, x in numbers.items() if x == number], numbers)
  }


def _number(alpha: float) -> int | float:
  """PEFT's alphas are whole numbers where they can be."""
  return int(alpha) if alpha == int(alpha) else alpha


def _by_pattern(patterns: Mapping[str, Any], name: str, default: Any) -> Any:
  for pattern, number in patterns.items():
    if re.match(rf'(.*\.)?({pattern})$', name):
      return number
  return default


def _matches(wanted: str | Sequence[str] | None, name: str) -> bool:
  """A regular expression for the whole name, or a list of ends of it."""
  if isinstance(wanted, str):
    return re.fullmatch(wanted, name) is not None
  return any(_ends(name, end) for end in wanted or ())


def _in_layers(values: Mapping[str, Any], name: str) -> bool:
  """Whether a module lies in the layers to transform, the first number in its name counting."""
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
    raise ValueError(f'{path}: not as PEFT writes them: {listed(wrong)}')
