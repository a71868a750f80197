"""A fingerprint tells bases of one shape apart, whatever their layout, dtype and head."""

import json

import jax.numpy as jnp
import pytest

from lora_jax import quantization, stacking, tree
from lora_jax.adapters.fingerprint import differences, fingerprint
from tests.adapters.bases import base


@pytest.mark.parametrize('family', ['bert', 'deberta-v2', 'gpt2'])
def test_a_fingerprint_is_of_the_base_in_any_layout_and_dtype_and_head(family):
  model, params = base(family)
  print_of = lambda params: fingerprint(params, model.config)
  expected = print_of(params)
  assert json.loads(json.dumps(expected)) == expected
  assert not any('classifier' in name or 'pooler' in name for name in expected['shapes'])
  assert print_of(stacking.stack(params, 2)) == expected
  assert print_of(tree.cast(params, jnp.bfloat16)) == expected
  assert print_of(tree.cast(params, jnp.float16))['shapes'] == expected['shapes']
  leaves = tree.flatten(params)
  for path, leaf in leaves.items():
    changed = print_of(tree.unflatten(leaves | {path: leaf + 0.01}))
    head = any(part in path for part in ('classifier', 'pooler'))
    assert (changed == expected) == head, path


def test_differences_are_those_of_the_first_kind_that_has_any():
  model, params = base()
  leaves = tree.flatten(params)
  known = fingerprint(params, model.config)
  key = 'encoder/layers_1/mlp/up/bias'
  other = fingerprint(tree.unflatten(leaves | {key: leaves[key] + 1}), model.config)
  compare = lambda *args: differences(model.config, known, model.config, *args)
  assert compare(known) == [] == compare({})
  assert compare(other) == [
    f'values of 1 of its {len(known["shapes"])} parameters: encoder/layers_*/mlp/up/bias'
  ]
  assert compare(other, frozenset([stacking.generalize(key)])) == []
  larger, larger_params = base(num_layers=1)
  (line,) = differences(
    model.config, known, larger.config, fingerprint(larger_params, larger.config)
  )
  assert line == "num_layers: 2 in the adapter's base, 1 in the model"


def test_a_quantized_base_is_told_by_its_codes_and_its_format():
  model, params = base()
  coded = {name: quantization.quantize(params, name) for name in ('int8', 'nf4')}
  prints = {name: fingerprint(x, model.config) for name, x in coded.items()}
  known = fingerprint(params, model.config)
  assert prints['nf4']['shapes'] == known['shapes']
  assert json.loads(json.dumps(prints['nf4'])) == prints['nf4']
  together = quantization.quantize(stacking.stack(params, 2), 'nf4')
  assert fingerprint(together, model.config) == prints['nf4']
  compare = lambda *args: differences(model.config, known, model.config, *args)
  line = "values: quantize=none in the adapter's base, quantize=nf4 in the model"
  assert compare(prints['nf4']) == [line]
  quantized = frozenset(prints['nf4']['formats'])
  assert quantization.kernels(coded['nf4']).keys() == {
    path.replace('*', str(i)) for path in quantized for i in range(2)
  }
  assert compare(prints['nf4'], quantized) == []  # Of an adapter that brings all of them.
  leaves = tree.flatten(params)
  key = 'encoder/layers_1/mlp/up/kernel'
  moved = quantization.quantize(tree.unflatten(leaves | {key: leaves[key][::-1]}), 'int8')
  (line,) = differences(
    model.config, prints['int8'], model.config, fingerprint(moved, model.config)
  )
  assert line.startswith('values of 1 of its') and 'layers_*/mlp/up/kernel' in line
