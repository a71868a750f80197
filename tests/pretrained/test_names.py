"""Names and layouts of Hugging Face: every leaf of every family has one, and comes back from it."""

import numpy as np
import pytest

from lora_jax.models import presets
from lora_jax.pretrained import huggingface, names

SIZES = dict(vocab_size=11, hidden_size=8, num_layers=2, num_heads=2, max_positions=16)


def model_of(family):
  own = dict(position_buckets=4, convolution=3) if family == 'deberta-v2' else {}
  config = presets.architecture(family, **SIZES | own)
  return huggingface.make_model(config, task=presets.TASKS[family][0])


@pytest.mark.parametrize('family', presets.FAMILIES)
def test_each_leaf_is_a_view_of_the_tensor_that_it_makes(family):
  model = model_of(family)
  shapes, rng = huggingface.shapes(model), np.random.default_rng(0)
  leaves = {path: rng.standard_normal(shape) for path, shape in shapes.items()}
  tensors = names.to_tensors(model.config, leaves)
  read = set()
  for path, leaf in leaves.items():
    source = names.source(model.config, path, leaf.shape)
    tensor = tensors[names.full_name(source.name, family)]
    assert tensor.shape == source.shape, path
    found = source.extract(tensor)
    assert np.shares_memory(found, tensor)
    np.testing.assert_array_equal(found, leaf, err_msg=path)
    read.add(names.full_name(source.name, family))
  assert read == set(tensors)


def test_names_of_modules():
  config = model_of('gpt2').config
  assert names.module_name(config, 'decoder/layers_1/attention/key') == 'h.1.attn.c_attn'
  assert names.third(config, 'decoder/layers_1/attention/key') == 1
  assert names.third(config, 'decoder/layers_1/mlp/up') is None
  config = model_of('bert').config
  assert (
    names.module_name(config, 'encoder/layers_0/mlp/up') == 'encoder.layer.0.intermediate.dense'
  )
  assert names.third(config, 'encoder/layers_0/attention/key') is None


@pytest.mark.parametrize(
  'family, full, plain',
  [
    ('bert', 'bert.embeddings.LayerNorm.weight', 'embeddings.LayerNorm.weight'),
    ('bert', 'classifier.weight', 'classifier.weight'),
    ('deberta-v2', 'pooler.dense.bias', 'pooler.dense.bias'),
    ('gpt2', 'transformer.wte.weight', 'wte.weight'),
  ],
)
def test_plain_and_full_names_are_inverse(family, full, plain):
  assert names.plain_name(full, family) == plain == names.plain_name(plain, family)
  assert names.full_name(plain, family) == full


def test_a_third_needs_the_others():
  leaves = {'decoder/layers_0/attention/query/bias': np.zeros(8)}
  with pytest.raises(ValueError, match='not given: attention/key, attention/value'):
    names.to_tensors(model_of('gpt2').config, leaves)
