"""Every field of every config is declared; what lies outside of its range is refused by name."""

import copy
import dataclasses
import importlib
import inspect
import itertools
import math
import pathlib

import numpy as np
import pytest

from configs import _base
from lora_jax import fields, methods
from lora_jax.data import batches, records, sources
from lora_jax.generation import search
from lora_jax.methods import bottleneck
from lora_jax.models import fused_attention, layers, presets
from lora_jax.ops import ACTIVATIONS

CONFIGS = [path.stem for path in pathlib.Path(_base.__file__).parent.glob('[a-z]*.py')]
ARGUMENTS = {
  'glue': [f'task={task},preset={preset}' for task in ('mrpc', 'stsb', 'cola', 'mnli')
           for preset in ('paper', 'script', 'small', 'compare')]
  + ['model=roberta-large,preset=adapter_setup', 'model=deberta-v2-xxlarge', 'tiny=true']
  + [f'preset=small,method={method}' for method in _base.METHODS],
  'gpt3': ['task=samsum', 'task=mnli_text,examples=100', 'method=prefix_embed', 'tiny=true'],
  **{name: ['preset=script', 'preset=small', 'tiny=true'] for name in ('e2e', 'webnlg', 'dart')},
  'demo': ['model=runs/demo/pretrain'],
  'pretrain': ['tiny=true'],
  'own': ['data=a.csv,model=./m,method=full'],
}  # fmt: skip
NUMBERS = {path: field for path, field in fields.ALL.items() if field.kind in (int, float)}


@pytest.mark.parametrize('name', CONFIGS)
def test_every_field_of_every_config_is_declared_and_its_value_allowed(name):
  module = importlib.import_module(f'configs.{name}')
  for arg in (None, *ARGUMENTS.get(name, [])):
    config = module.get_config(arg)
    assert {path for path, _ in fields.leaves(config)} <= fields.ALL.keys()
    fields.check(config)
    runs = module.sweep(arg) if 'rank' in config.method and name != 'compare' else ()
    for override in itertools.islice(runs, 40):
      member = copy.deepcopy(config)
      member.update_from_flattened_dict(dict(override))
      fields.check(member)


def test_the_fields_of_own_files_are_declared_with_their_defaults():
  files = {field.name: field.default for field in dataclasses.fields(records.Files)}
  assert files == {name: field.default for name, field in fields.OWN.items()}


def test_the_options_of_every_method_and_architecture_are_declared():
  options = {
    name for make in methods.METHODS.values() for name in inspect.signature(make).parameters
  }
  assert options | {'name'} == fields.METHOD.keys()
  sizes = {field.name for kind in presets.FAMILIES.values() for field in dataclasses.fields(kind)}
  assert sizes == fields.FRESH.keys()


def test_each_declaration_is_whole_and_allows_its_own_default():
  for path, field in fields.ALL.items():
    assert field.allows(field.default), path
    assert field.meaning.endswith('.') and field.meaning[0].isupper(), path
    assert bool(field.within) == (field.kind in (int, float)), f'{path} has no range'


@pytest.mark.parametrize('path', NUMBERS)
def test_a_number_is_allowed_at_the_edges_of_its_range_and_refused_beyond(path):
  field = NUMBERS[path]
  low, high = map(float, field.within[1:-1].split(','))
  beyond = [math.nan, math.inf, -math.inf, True, '1', [1], {}]
  inside = [field.default] + ([] if field.sentinel is None else [field.sentinel])
  for edge, away, is_closed in (
    (low, -1, field.within[0] == '['),
    (high, 1, field.within[-1] == ']'),
  ):
    if not math.isfinite(edge):
      continue
    step = 1 if field.kind is int else max(abs(edge), 1e-30) * 1e-6
    (inside if is_closed else beyond).append(field.kind(edge))
    inside.append(field.kind(edge - away * step))
    beyond.append(field.kind(edge + away * step))
  if field.kind is int:
    beyond += [1.0, 2.5]
  for value in inside:
    fields.check({path: value})
    fields.check({path: np.float64(value) if isinstance(value, float) else value})
  for value in beyond:
    if value != field.sentinel or isinstance(value, bool):
      with pytest.raises(ValueError, match=rf'config\.{path}=.*expected ') as error:
        fields.check({path: value})
      assert field.meaning in str(error.value)


@pytest.mark.parametrize(
  ('path', 'value'),
  [
    ('model.dtype', 'float23'),
    ('model.dtype', None),
    ('model.scan', 1),
    ('model.scan', 'true'),
    ('data.dir', None),
    ('data.dir', 3),
    ('decode.stop', '\n'),
    ('decode.stop', ('\n', 1)),
    ('method.targets', ('.*/query', '(')),
    ('method.targets', 3),
    ('method.rank', {}),
    ('method.rank', {'.*': 0}),
    ('method.rank', {'(': 4}),
    ('method.rank', {'.*': True}),
    ('method.alpha', {'.*/query': 4.0, '.*': math.nan}),
    ('method.init', 'unifrom'),
  ],
)
def test_what_has_another_type_or_is_not_one_of_the_choices_is_refused(path, value):
  with pytest.raises(ValueError, match=rf'config\.{path}=.*expected '):
    fields.check({path: value})


def test_a_rank_and_an_alpha_may_be_one_for_each_pattern():
  rules = {'.*/layers_[0-2]/.*query': 4, '.*': 8}
  fields.check({'method': {'rank': rules, 'alpha': rules, 'train': '.*/bias'}})


def test_all_that_is_wrong_is_said_at_once_and_an_unknown_field_with_its_nearest():
  with pytest.raises(ValueError) as error:
    fields.check({'optim': {'lr': -1, 'wieght_decay': 0.1}, 'eval': {'every_epochs': 0}})
  lines = str(error.value).splitlines()
  assert (
    lines[0] == 'config.optim.lr=-1: expected a finite number in [0, inf). Largest learning rate; '
    '0 leaves the base untuned.'
  )
  assert "no field 'optim.wieght_decay'. Did you mean 'optim.weight_decay'" in lines[1]
  assert lines[2].startswith('config.eval.every_epochs=0: expected a whole number in [1, inf)')
  with pytest.raises(ValueError, match=r'config\.decode\.beams=0'):
    fields.check({'beams': 0}, 'decode')


@pytest.mark.parametrize(
  ('path', 'known'),
  [
    ('data.batching', batches.LAYOUTS),
    ('data.source', sources.SOURCES),
    ('decode.strategy', search.STRATEGIES),
    ('model.attention', fused_attention.IMPLEMENTATIONS),
    ('model.remat', layers.REMAT),
    ('model.fresh.family', presets.FAMILIES),
    ('model.fresh.activation', ACTIVATIONS),
    ('method.activation', bottleneck.ACTIVATIONS),
  ],
)
def test_the_choices_are_those_that_the_code_knows(path, known):
  assert set(fields.ALL[path].choices) == set(known)
