"""Names and shapes of the tensors of factors, by a config."""

import json

import pytest

from lora_jax.adapters import parts, peft, peft_config, peft_factors, peft_matching
from lora_jax.pretrained import safetensors
from tests.adapters.toys import ADAPTERS, base_of, config_of

CASES = ('peft.bert.dora', 'peft.bert.vera', 'peft.llama.vera', 'peft.gpt2.vera')


@pytest.mark.parametrize('case', CASES)
def test_every_tensor_of_factors_has_a_name_and_a_shape(case):
  config = config_of(base_of(case))
  task, labels = ('classification', 3) if 'bert' in case else ('lm', 0)
  base = parts.base_layout(config, task, labels)
  values = peft_config.read(ADAPTERS / case / peft.CONFIG)
  adapter = peft.read(ADAPTERS / case, config)
  found, _ = parts.to_parts(adapter, 'PEFT', holds_vera=True)
  sites = {
    module: peft_matching.Factors(found.pairs[paths[0]].rank, 1.0)
    for module, paths in base.modules.items()
    if paths[0] in found.pairs
  }
  stored = safetensors.Tensors(ADAPTERS / case / 'adapter_model.safetensors')
  factors = [x for name, x in stored.items() if 'lora_' in name or 'vera_' in name]
  wanted = peft_factors.shapes(values, base, sites, case)
  assert sorted(wanted.values()) == sorted(x.shape for x in factors)
  assert json.dumps(peft_factors.options(values)) == json.dumps(
    {
      'peft.bert.dora': {'dropout': 0.0},
      'peft.bert.vera': {'dropout': 0.1, 'projection_seed': 5},
      'peft.llama.vera': {'dropout': 0.0, 'projection_seed': 7},
      'peft.gpt2.vera': {'dropout': 0.0, 'projection_seed': 0},
    }[case]
  )
