"""PEFT's rule for names: its own decisions over generated configs, as golden/ records them."""

import collections
import json

import pytest

from lora_jax.adapters import peft_config, peft_matching
from lora_jax.adapters.parts import base_layout
from lora_jax.models import presets
from tests.adapters.toys import GOLDEN, config_of

RECORD = json.loads((GOLDEN / 'peft_matching.json').read_text())
MODELS = list(RECORD['models'])


def decision(model, fields, path):
  """The modules that our rule gives factors, by `rank,alpha`."""
  path.write_text(json.dumps({'peft_type': 'LORA', **fields}))
  modules = RECORD['models'][model]
  values = peft_matching.resolve(peft_config.read(path), modules['linear'], model.split()[0])
  found = collections.defaultdict(list)
  for i, name in enumerate([*modules['linear'], *modules['other']]):
    if factors := peft_matching.factors(values, name):
      found[f'{factors.rank},{factors.alpha:g}'].append(i)
  return found


@pytest.mark.parametrize('model', MODELS)
def test_the_rule_decides_as_peft_does(model, tmp_path):
  cases = [case for case in RECORD['cases'] if case['model'] == model]
  assert len(cases) >= 50 and sum('found' in case for case in cases) >= 20
  for case in cases:
    fields = case['fields']
    if case.get('error', '').startswith('ValueError: `layers'):
      with pytest.raises(ValueError, match=r'values that are not read, .*: layers_to_transform'):
        decision(model, fields, tmp_path / 'config.json')
      continue
    found = decision(model, fields, tmp_path / 'config.json')
    if case.get('error', '').startswith('TypeError'):  # A module that PEFT cannot save as a whole.
      continue
    expected = {key: sorted(modules) for key, modules in case.get('found', {}).items()}
    assert {key: sorted(modules) for key, modules in found.items()} == expected, fields
    assert bool(expected) == ('error' not in case)


@pytest.mark.parametrize('model', MODELS)
def test_the_names_of_the_wrapped_model_show_in_a_file(model):
  family, _, bare = model.partition(' ')
  config = config_of(family)
  base = base_layout(config, presets.TASKS[family][0], 0 if family == 'gpt2' else 2)
  real = {
    name
    for names in RECORD['models'][model].values()
    for name in names
    if not any(f'.{layer}.' in name for layer in range(2, 12))
  }
  file = dict.fromkeys(f'{name}.lora_A.weight' for name in real)
  inside = peft_matching.names_inside(base, file, 'a file')
  adaptable = {inside[plain] for plain in base.modules if plain in inside}
  assert adaptable <= real
  others = {name.rsplit('.', 1)[-1] for name in real - adaptable}
  assert others <= {'wte', 'lm_head', 'rel_embeddings', 'conv', 'dense'}  # dense: RoBERTa's pooler.
  with_prefix = any(name.startswith(peft_matching.names.PREFIXES[family]) for name in adaptable)
  assert with_prefix == (not bare)


def test_a_file_is_of_one_model():
  base = base_layout(config_of('bert'), 'classification', 2)
  names = ['bert.encoder.layer.0.attention.self.query', 'encoder.layer.1.attention.self.query']
  with pytest.raises(
    ValueError, match=r'a file: encoder.layer.1.* has no prefix bert\..*bert.enco'
  ):
    peft_matching.names_inside(base, dict.fromkeys(names), 'a file')


def test_a_module_is_saved_with_its_parent():
  assert peft_matching.saves('pooler', 'bert.pooler.dense')
  assert peft_matching.saves('classifier', 'classifier')
  assert not peft_matching.saves('pool', 'bert.pooler.dense')


def test_a_config_that_names_no_targets_has_those_of_its_family():
  """As PEFT's table (peft/utils/constants.py) has them; every family is in it."""
  values = peft_config.DEFAULTS | {'target_modules': None}
  for family in presets.FAMILIES:
    assert peft_matching.resolve(values, [], family)['target_modules'], family
  assert peft_matching.resolve(values, [], 'qwen3')['target_modules'] == ['q_proj', 'v_proj']
