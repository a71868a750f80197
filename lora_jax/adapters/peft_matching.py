"""PEFT's rule for names: the modules that a config gives factors, their ranks and alphas.

PEFT looks at one name of a module, that inside the model which was wrapped. It is
`bert.encoder.layer.0.output.dense` if that was a BertForSequenceClassification, and
`encoder.layer.0.output.dense` if it was a bare BertModel. tests/golden/make_peft_matching.py asked
PEFT for its decisions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from lora_jax.adapters.parts import BaseLayout
from lora_jax.adapters.peft_config import PeftConfig
from lora_jax.models.heads import LLAMAS
from lora_jax.pretrained import names

Number = TypeVar('Number', int, float)

ALL_LINEAR = 'all-linear'
DEFAULT_TARGETS = {  # Of a config that names none.
  'bert': ['query', 'value'],
  'roberta': ['query', 'value'],
  'deberta-v2': ['query_proj', 'value_proj'],
  'gpt2': ['c_attn'],
  **{family: ['q_proj', 'v_proj'] for family in LLAMAS},
}


class Factors(NamedTuple):
  """Rank and alpha of a module's pair of factors."""

  rank: int
  alpha: float


def names_inside(base: BaseLayout, tensors: Mapping[str, object], where: str) -> dict[str, str]:
  """Names inside the wrapped model, by plain name, of all modules that both models have.

  Args:
    base: the layout of the base.
    tensors: the file's tensors by their names inside the wrapped model, which show which model that
      was: names of the body have the family's prefix, or none has it.
    where: the file, for the error.

  Raises:
    ValueError: if some names of the body have the prefix and others do not.
  """
  config = base.model.config
  family, prefix = config.family, names.PREFIXES[config.family]
  full = {
    plain: names.full_name(plain, family)
    for path in base.shapes
    if (plain := names.module_name(config, path.rsplit('/', 1)[0]))
  }
  body = {plain for plain, name in full.items() if name != plain}
  prefixed = [name for name in tensors if name.startswith(prefix)]
  bare = [name for name in tensors if any(f'{name}.'.startswith(f'{plain}.') for plain in body)]
  if prefixed and bare:
    raise ValueError(
      f'{where}: {bare[0]} has no prefix {prefix}, and {prefixed[0]} has it. All tensors of a file '
      'are of one model, with its head or without.'
    )
  return {plain: plain for plain in full if plain in body} if bare else full


def resolve(values: PeftConfig, linear: Sequence[str], family: str) -> PeftConfig:
  """The config with a list or a regular expression as its target_modules.

  Args:
    values: the config, whose target_modules may also be 'all-linear' or missing.
    linear: names of the wrapped model's dense layers.
    family: the base's family.
  """
  wanted = values['target_modules']
  if wanted is None:
    wanted = DEFAULT_TARGETS[family]
  elif isinstance(wanted, str) and wanted.lower() == ALL_LINEAR:
    wanted = [name for name in linear if not _is_output(name, values)]
  return {**values, 'target_modules': wanted}


def factors(values: PeftConfig, name: str) -> Factors | None:
  """Rank and alpha of the factors that PEFT puts on a module; None if it puts none on it.

  Args:
    values: the config, as `resolve` returns it.
    name: the module's name inside the wrapped model.
  """
  if _matches(values['exclude_modules'], name):
    return None
  if any(re.match(rf'(^|.*\.){key}($|\..*)', name) for key in values['modules_to_save'] or ()):
    return None
  if not _matches(values['target_modules'], name) or not _in_layers(values, name):
    return None
  return numbers(values, name)


def numbers(values: PeftConfig, name: str) -> Factors:
  """Rank and alpha of the factors that PEFT puts on a module that is one of its targets."""
  rank = _by_pattern(values['rank_pattern'], name, values['r'])
  return Factors(rank, float(_by_pattern(values['alpha_pattern'], name, values['lora_alpha'])))


def saves(key: str, name: str) -> bool:
  """Whether an entry of modules_to_save covers a module: the end of its name or of a parent's."""
  within = (name.rsplit('.', i)[0] for i in range(name.count('.') + 1))
  return any(outer.endswith(key) for outer in within)


def _is_output(name: str, values: PeftConfig) -> bool:
  """Whether 'all-linear' leaves out a dense layer: the output layer of a model for a task."""
  return name == 'lm_head' or (name in ('score', 'classifier') and values['task_type'] == 'SEQ_CLS')


def _matches(wanted: str | Sequence[str] | None, name: str) -> bool:
  """Whether a regular expression matches the whole name, or a list holds an end of it."""
  if isinstance(wanted, str):
    return re.fullmatch(wanted, name) is not None
  return any(f'.{name}'.endswith(f'.{end}') for end in wanted or ())


def _in_layers(values: PeftConfig, name: str) -> bool:
  """Whether a module lies in the layers to transform, by the first number in its name."""
  layers, patterns = values['layers_to_transform'], values['layers_pattern']
  exact = isinstance(values['target_modules'], str) or name in (values['target_modules'] or ())
  if layers is None or layers == [] or exact:
    return True
  # Any module list counts if none is named; PEFT then asks for a name in front of the list's.
  patterns = [patterns] if isinstance(patterns, str) and patterns else patterns or []
  starts = [rf'(?:^|.*?\.){pattern}' for pattern in patterns] or [r'.*?\.[^.]*']
  matches = (re.match(rf'{start}\.(?P<idx>\d+)\.', name) for start in starts)
  found = next(filter(None, matches), None)
  indices = layers if isinstance(layers, list) else [layers]
  return found is not None and int(found['idx']) in indices


def _by_pattern(patterns: Mapping[str, Number], name: str, default: Number) -> Number:
  for pattern, number in patterns.items():
    if re.match(rf'(.*\.)?({pattern})$', name):
      return number
  return default
