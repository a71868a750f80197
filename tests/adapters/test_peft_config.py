"""PEFT's rules for names: the shortest ends, patterns, layers and modules that are saved."""

import json

import pytest

from lora_jax.adapters import peft_config

MODULES = [
  f'h.{i}.{name}' for i in range(3) for name in ('attn.c_attn', 'attn.c_proj', 'mlp.c_proj')
]


def read(tmp_path, **values):
  path = tmp_path / 'adapter_config.json'
  path.write_text(json.dumps({'peft_type': 'LORA', 'target_modules': ['c_attn'], **values}))
  return peft_config.read(path)


@pytest.mark.parametrize(
  'selection, expected',
  [
    (['h.0.attn.c_attn', 'h.1.attn.c_attn', 'h.2.attn.c_attn'], ['c_attn']),
    (['h.0.attn.c_proj', 'h.1.attn.c_proj', 'h.2.attn.c_proj'], ['attn.c_proj']),
    (['h.1.mlp.c_proj'], ['1.mlp.c_proj']),
    (MODULES, ['c_attn', 'c_proj']),
    ([], []),
  ],
)
def test_suffixes_match_the_selection_and_nothing_else(selection, expected):
  found = peft_config.suffixes(selection, MODULES)
  assert found == expected
  ends = lambda name: any(f'.{name}'.endswith(f'.{suffix}') for suffix in found)
  assert [name for name in MODULES if ends(name)] == [m for m in MODULES if m in selection]


def test_a_field_that_is_missing_or_null_has_its_default(tmp_path):
  values = read(tmp_path, lora_alpha=None, task_type='SEQ_CLS')
  assert (values['r'], values['lora_alpha'], values['bias']) == (8, 8, 'none')
  assert values['modules_to_save'] == ['classifier', 'score']
  assert set(values) == set(peft_config.DEFAULTS)
