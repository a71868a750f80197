"""Models in GGUF files are those of the folder that they were made of."""

import gguf
import numpy as np
import pytest
from gguf import quants

from lora_jax import tree
from lora_jax.models import llama
from lora_jax.pretrained import gguf_file, huggingface, load_model
from tests.pretrained import gguf_toys
from tests.pretrained.gguf_toys import GOLDEN, TYPES, write


@pytest.mark.parametrize('case', ['llama-untied', 'qwen2', 'qwen3', 'llama-biased'])
def test_a_file_of_exact_values_is_the_folder(tmp_path, case):
  """Llama's queries and keys lie in another order in the file; Qwen's do not."""
  path = tmp_path / 'model.gguf'
  write(path, case)
  model, params = load_model(path, task='lm')
  expected, leaves = load_model(GOLDEN / case, task='lm')
  assert model.config == expected.config
  leaves, found = tree.flatten(leaves), tree.flatten(params)
  assert found.keys() == leaves.keys()
  for name, leaf in leaves.items():
    np.testing.assert_array_equal(found[name], leaf, err_msg=name)


@pytest.mark.parametrize('kind', ['F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1'])
def test_quantized_values_are_those_of_the_formats_package(tmp_path, kind):
  x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
  raw = quants.quantize(x, TYPES[kind])
  writer = gguf.GGUFWriter(tmp_path / 'x.gguf', 'llama')
  writer.add_tensor('x', raw, raw_dtype=TYPES[kind])
  for step in ('header', 'kv_data', 'tensors'):
    getattr(writer, f'write_{step}_to_file')()
  writer.close()
  (tensor,) = gguf.GGUFReader(tmp_path / 'x.gguf').tensors
  found = gguf_file.Quantized(tensor, None)
  assert (found.shape, found.dtype) == ((4, 64), np.float32)
  np.testing.assert_array_equal(found, quants.dequantize(raw, TYPES[kind]))
  np.testing.assert_array_equal(found[1:3], quants.dequantize(raw, TYPES[kind])[1:3])
  worst = np.abs(np.asarray(found) - x).max()
  assert 0 < worst < {'F16': 1e-3, 'BF16': 1e-2, 'Q8_0': 0.02}.get(kind, 0.4)


def test_llama_3s_positions_are_found_by_their_effect(tmp_path):
  plain = llama.LlamaConfig(rope_theta=10000.0, head_width=6)
  scaled = llama.LlamaConfig(rope_theta=10000.0, head_width=6, rope_factor=8.0)
  divisors = llama.frequencies(plain) / llama.frequencies(scaled)
  assert divisors.max() > 1.5
  path = tmp_path / 'model.gguf'
  write(path, 'llama-untied', extra={gguf_file.FREQUENCIES: divisors})
  assert huggingface.read_config(path).rope_factor == 8.0
  path = tmp_path / 'other.gguf'
  write(path, 'llama-untied', extra={gguf_file.FREQUENCIES: divisors * 1.5})
  with pytest.raises(ValueError, match=r'other.gguf: rope_freqs.weight is not of Llama 3.1 or 3.2'):
    huggingface.read_config(path)


@pytest.mark.parametrize(
  'change, problem',
  [
    (dict(change={'expert_count': 4}), "architecture 'llama'; read are dense models"),
    (dict(change={'rope.scaling.type': 'yarn'}), "rotary positions scaled by 'yarn'"),
    (dict(change={'rope.scaling.factor': 4}), "rotary positions scaled by 'linear'"),
    (dict(change={'rope.scale_linear': 2}), "rotary positions scaled by 'linear'"),
    (dict(change={'rope.dimension_count': 2}), '2 of [0-9]+ elements of a head are rotated'),
    (dict(extra={'model.strange.weight': np.ones((2, 2), np.float32)}), 'model.strange.weight: no'),
  ],
)
def test_what_is_not_read_is_named(tmp_path, change, problem):
  write(tmp_path / 'model.gguf', 'llama-untied', **change)
  with pytest.raises(ValueError, match=f'{tmp_path}/model.gguf: .*{problem}'):
    load_model(tmp_path / 'model.gguf', task='lm')


def test_a_quantization_that_is_not_read_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(gguf_file, 'QUANTIZATIONS', ('F32',))
  write(tmp_path / 'model.gguf', 'llama-untied', kind=TYPES.F16)
  with pytest.raises(ValueError, match=r'token_embd.weight: F16; read are F32'):
    load_model(tmp_path / 'model.gguf', task='lm')
  assert gguf_toys.TYPES.Q4_K.name not in gguf_file.QUANTIZATIONS
