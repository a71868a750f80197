"""VeRA in PEFT's format: what is read of it, and what is not computed here."""

import numpy as np
import pytest
from safetensors import numpy as writer

from lora_jax.adapters import peft, peft_file
from lora_jax.pretrained import safetensors
from tests.adapters import toys
from tests.adapters.toys import ADAPTERS, config_of, copy_of


@pytest.mark.parametrize(
  'changes, problem',
  [
    (dict(bias='vera_only'), "bias='vera_only' of VeRA"),
    (dict(projection_prng_key='0'), "projection_prng_key='0'"),
    (dict(r=0), 'r=0'),
    (dict(a_feature_of_tomorrow=1), 'a_feature_of_tomorrow=1'),
    (dict(r=4), r'vera_lambda_d is \(5,\), expected \(4,\)'),
    (dict(target_modules=['query', 'value']), 'unexpected .*output.dense.vera_lambda_b'),
    (
      dict(target_modules=['query', 'value']),
      r'base_model.vera_A is \(5, 40\), expected \(5, 24\)',
    ),
    (dict(save_projection=False), 'unexpected base_model.vera_A'),
  ],
)
def test_configs_of_vera_that_do_not_fit(changes, problem, tmp_path):
  folder = copy_of('peft.bert.vera', tmp_path, **changes)
  with pytest.raises(ValueError, match=problem):
    peft.read(folder, config_of('bert'))


def test_the_fused_projection_of_gpt2_is_not_read_of_vera(tmp_path):
  folder = copy_of('peft.gpt2.vera', tmp_path, target_modules=['c_attn'])
  with pytest.raises(ValueError, match=r'together, which is not computed: h\.0\.attn\.c_attn'):
    peft.read(folder, config_of('gpt2'))


def test_the_shared_factors_of_vera_come_of_their_seed(tmp_path):
  """Of a file that holds them too, the same ones."""
  adapter = peft.read(ADAPTERS / 'peft.bert.vera', config_of('bert'))
  assert adapter.method['projection_seed'] == 5
  folder = copy_of('peft.bert.vera', tmp_path, save_projection=False)
  stored = safetensors.Tensors(folder / peft_file.TENSORS)
  tensors = {name: np.array(x) for name, x in stored.items() if 'base_model.vera_' not in name}
  writer.save_file(tensors, folder / peft_file.TENSORS)
  toys.same(peft.read(folder, config_of('bert')), adapter)
