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


@pytest.mark.parametrize(
  'fields, expected',
  [
    ({}, [0, 1, 2]),
    (dict(layers_to_transform=[0, 2]), [0, 2]),
    (dict(layers_to_transform=1, layers_pattern='h'), [1]),
    (dict(exclude_modules=['1.attn.c_attn']), [0, 2]),
    (dict(target_modules=r'.*\.[12]\.attn\.c_attn'), [1, 2]),
    (dict(modules_to_save=['c_attn']), []),
  ],
)
def test_modules_with_factors(fields, expected, tmp_path):
  values = read(tmp_path, **fields)
  names = [f'h.{i}.attn.c_attn' for i in range(3)]
  assert [i for i in range(3) if peft_config.targets(values, names[i], 'gpt2')] == expected
  assert not peft_config.targets(values, 'h.0.mlp.c_proj', 'gpt2')


def test_ranks_and_alphas_by_pattern(tmp_path):
  patterns = dict(r=4, rank_pattern={r'h\.0\.attn': 1, '1.attn.c_attn': 2}, alpha_pattern={'x': 3})
  values = read(tmp_path, **patterns)
  rank = lambda name: peft_config.rank(values, name, 'gpt2')
  assert [rank(f'h.{i}.attn.c_attn') for i in range(3)] == [4, 2, 4]
  assert peft_config.alpha(values, 'h.0.attn.c_attn', 'gpt2') == 8.0
