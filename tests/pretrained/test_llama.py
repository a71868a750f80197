"""config.json of the Llama family: both spellings, both ways, and what is refused."""

import json

import pytest

from lora_jax.models import presets
from lora_jax.pretrained import architecture
from tests.pretrained.gguf_toys import GOLDEN

CASES = ['llama', 'llama-untied', 'mistral', 'qwen2', 'qwen3', 'llama-biased']


@pytest.mark.parametrize('case', CASES)
def test_what_is_written_is_read_again(case):
  config = architecture.from_hugging_face(json.loads((GOLDEN / case / 'config.json').read_text()))
  assert architecture.from_hugging_face(architecture.to_hugging_face(config)) == config
  assert (config.biased, config.normed) == (case in ('qwen2', 'llama-biased'), case == 'qwen3')
  assert config.output_biased == (case == 'llama-biased')
  assert config.tied == (case in ('llama', 'mistral', 'qwen2', 'llama-biased'))


def test_the_published_llama_3_2_gives_the_preset():
  """As the repository has it, in the spelling of transformers 4."""
  values = {
    'model_type': 'llama', 'attention_bias': False, 'attention_dropout': 0.0, 'head_dim': 64,
    'hidden_act': 'silu', 'hidden_size': 2048, 'initializer_range': 0.02, 'mlp_bias': False,
    'intermediate_size': 8192, 'max_position_embeddings': 131072, 'num_attention_heads': 32,
    'num_hidden_layers': 16, 'num_key_value_heads': 8, 'pretraining_tp': 1, 'rms_norm_eps': 1e-05,
    'rope_theta': 500000.0, 'tie_word_embeddings': True, 'vocab_size': 128256,
    'rope_scaling': {
      'factor': 32.0, 'high_freq_factor': 4.0, 'low_freq_factor': 1.0,
      'original_max_position_embeddings': 8192, 'rope_type': 'llama3',
    },
  }  # fmt: skip
  assert architecture.from_hugging_face(values) == presets.PRESETS['llama-3.2-1b'].config


@pytest.mark.parametrize(
  'case, change, problem',
  [
    ('mistral', {'attention_bias': True}, 'attention_bias=True; supported: False'),
    ('qwen2', {'attention_bias': True}, 'attention_bias=True; supported: False'),
    ('llama', {'mlp_bias': True}, 'mlp_bias=True; supported: False'),
    ('llama', {'rope_parameters': {'rope_type': 'yarn'}}, "^there/config.json: rotary .* 'yarn'"),
    ('llama', {'hidden_act': 'xielu'}, "activation 'xielu'"),
    ('llama', {'num_key_value_heads': 3}, '3 heads of keys for 4 heads of queries'),
    ('mistral', {'sliding_window': 8}, '^there/config.json: sliding_window=8: .* lower that to 8'),
    ('qwen3', {'use_sliding_window': True}, 'use_sliding_window=True; supported: False'),
    ('qwen3', {'layer_types': ['sliding_attention', 'full_attention']}, 'layer_types='),
  ],
)
def test_what_is_not_computed_is_named(case, change, problem):
  values = json.loads((GOLDEN / case / 'config.json').read_text()) | change
  with pytest.raises(ValueError, match=problem):
    architecture.from_hugging_face(values, 'there/config.json')


def test_a_qwen3_may_have_biases():
  """As in transformers, in its output, too; in Qwen2 they are fixed, without the output's."""
  values = json.loads((GOLDEN / 'qwen3' / 'config.json').read_text()) | {'attention_bias': True}
  config = architecture.from_hugging_face(values)
  assert (config.biased, config.output_biased) == (True, True)
  assert architecture.to_hugging_face(config)['attention_bias'] is True


def test_a_window_that_no_row_exceeds_is_none():
  values = json.loads((GOLDEN / 'mistral' / 'config.json').read_text())
  config = architecture.from_hugging_face(values | {'sliding_window': 16})
  assert config == architecture.from_hugging_face(values)
  del values['sliding_window']  # Then it is 4096.
  assert config == architecture.from_hugging_face(values)
  with pytest.raises(ValueError, match='sliding_window=4096'):
    architecture.from_hugging_face(values | {'max_position_embeddings': 4097})


@pytest.mark.parametrize('case, width', [('qwen3', 128), ('qwen2', 6)])
def test_the_width_of_a_head_that_is_not_written(case, width):
  values = json.loads((GOLDEN / case / 'config.json').read_text())
  values.pop('head_dim', None)
  assert architecture.from_hugging_face(values).head_width == width
