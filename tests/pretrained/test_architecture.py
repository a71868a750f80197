"""Architectures of config.json there and back, and every config that is not supported."""

import json
import pathlib

import pytest

from lora_jax.models import presets
from lora_jax.pretrained import architecture, huggingface

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'models'


@pytest.mark.parametrize('name', presets.PRESETS)
def test_configs_of_the_presets_come_back(name):
  config = presets.PRESETS[name].config
  assert architecture.from_hugging_face(architecture.to_hugging_face(config)) == config


@pytest.mark.parametrize(
  'case, values, message',
  [
    ('bert', {'model_type': 't5'}, "model_type='t5'. Known: bert, roberta, deberta-v2, gpt2"),
    ('bert', {'model_type': None}, 'model_type=None. Known: bert'),
    ('bert', {'hidden_act': 'mish'}, "activation 'mish'; supported: .*gelu"),
    (
      'roberta',
      {'position_embedding_type': 'relative_key'},
      "position_embedding_type='relative_key'; supported: 'absolute'",
    ),
    ('bert', {'is_decoder': True}, 'is_decoder=True; supported: False'),
    ('gpt2', {'tie_word_embeddings': False}, 'tie_word_embeddings=False; supported: True'),
    ('gpt2', {'activation_function': 'mish'}, "activation 'mish'"),
    ('gpt2', {'n_head': 5}, 'a width of 24 does not divide into 5 heads'),
    ('gpt2', {'hidden_size': 48}, 'hidden_size=48; supported: 24'),  # Beside n_embd=24.
  ],
)
def test_configs_that_are_not_supported(case, values, message):
  folder = GOLDEN / case
  known = json.loads((folder / 'config.json').read_text())
  with pytest.raises(ValueError, match=f'here: .*{message}'):
    architecture.from_hugging_face(known | values, 'here')


def test_configs_that_are_broken(tmp_path):
  (tmp_path / 'config.json').write_text('{"model_type": "bert", "vocab')
  with pytest.raises(ValueError, match=r'config.json: not valid JSON'):
    huggingface.read_config(tmp_path)
  (tmp_path / 'config.json').write_text('{"model_type": "bert", "vocab_size": 3}')
  with pytest.raises(
    ValueError, match=r'config.json: a bert model needs the key .*, which is missing'
  ):
    huggingface.read_config(tmp_path)


def test_config_of_roberta_counts_usable_positions():
  config = huggingface.read_config(GOLDEN / 'roberta')
  assert (config.max_positions, config.position_rows) == (16, 18)


@pytest.mark.parametrize(
  'case, key, alias, name',
  [
    ('bert', 'hidden_act', 'swish', 'silu'),
    ('gpt2', 'activation_function', 'gelu_pytorch_tanh', 'gelu_new'),
  ],
)
def test_an_activation_by_its_other_name(case, key, alias, name):
  values = json.loads((GOLDEN / case / 'config.json').read_text()) | {key: alias}
  assert architecture.from_hugging_face(values).activation == name


def test_the_sizes_of_a_gpt2_by_their_other_names():
  """As transformers reads them (GPT2Config.attribute_map), in place of its own names or beside."""
  values = json.loads((GOLDEN / 'gpt2' / 'config.json').read_text())
  expected = architecture.from_hugging_face(values)
  for alias, name in (
    ('hidden_size', 'n_embd'),
    ('num_hidden_layers', 'n_layer'),
    ('num_attention_heads', 'n_head'),
    ('max_position_embeddings', 'n_positions'),
  ):
    assert architecture.from_hugging_face(values | {alias: values[name]}) == expected
    values[alias] = values.pop(name)
  assert architecture.from_hugging_face(values) == expected
