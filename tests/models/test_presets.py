"""Sizes of the published architectures."""

import jax
import jax.numpy as jnp
import pytest

from lora_jax import tree
from lora_jax.models import PRESETS, presets
from lora_jax.models.presets import MODELS

COUNTS = {  # Without pooler and head.
  'bert-base-uncased': 108_891_648,
  'bert-large-uncased': 334_092_288,
  'roberta-base': 124_055_040,
  'roberta-large': 354_310_144,
  'gpt2': 124_439_808,
  'gpt2-medium': 354_823_168,
  'gpt2-large': 774_030_080,
  'gpt2-xl': 1_557_611_200,
  'deberta-v2-xxlarge': 1_564_549_632,  # As transformers' model on torch's meta device.
  'deberta-v3-base': 183_831_552,
  'gpt3-125m': 125_226_240,
  'gpt3-350m': 355_871_744,
  'gpt3-760m': 760_300_032,
  'gpt3-1.3b': 1_315_723_264,
  'gpt3-2.7b': 2_651_553_280,
  'gpt3-6.7b': 6_658_404_352,
  'gpt3-13b': 12_853_386_240,
  'gpt3-175b': 174_604_259_328,
  'smollm2-135m': 134_515_008,
  'smollm2-360m': 361_821_120,
  'smollm2-1.7b': 1_711_376_384,
  'tinyllama-1.1b': 1_100_048_384,
  'llama-2-7b': 6_738_415_616,
  'llama-2-13b': 13_015_864_320,
  'llama-2-70b': 68_976_648_192,
  'llama-3-8b': 8_030_261_248,
  'llama-3-70b': 70_553_706_496,
  'llama-3.2-1b': 1_235_814_400,
  'llama-3.2-3b': 3_212_749_824,
}


@pytest.mark.parametrize('name', PRESETS)
def test_parameter_counts_at_full_size(name):
  config = PRESETS[name].config
  # Stacked: the same leaves, traced once whatever the depth.
  model = MODELS[config.family](config, scan=True)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))['params']
  without = {key: value for key, value in shapes.items() if key not in ('pooler', 'classifier')}
  assert tree.count(without) == COUNTS[name]
  if model.head:
    head = tree.split(shapes, model.head)[1]
    width = config.hidden_size
    assert tree.count(head) == (width + 1) * width + 2 * (width + 1)


def test_usable_positions_of_roberta():
  assert PRESETS['roberta-base'].config.max_positions == 512
  assert PRESETS['roberta-base'].config.position_rows == 514


@pytest.mark.parametrize(
  'field, value, expected',
  [
    ('num_layers', 0, 'an integer from 1 to 1000'),
    ('num_layers', 2.0, 'an integer from 1 to 1000'),
    ('num_heads', True, 'an integer from 1'),
    ('vocab_size', [30522], 'an integer from 1'),
    ('vocab_size', 2**60, 'an integer from 1 to 16777216'),
    ('pad_token_id', -1, 'an integer from 0'),
    ('norm_epsilon', '1e-12', 'a number from 0 to 1, 0 excluded'),
    ('norm_epsilon', 0, 'a number from 0 to 1, 0 excluded'),
    ('initializer_range', float('nan'), 'a number from 0 to 1'),
    ('hidden_dropout', 1, 'a number from 0 to 1, 1 excluded'),
    ('hidden_dropout', None, 'a number from 0 to 1, 1 excluded'),
    ('activation', 3, 'a string'),
  ],
)
def test_a_value_of_another_type_or_range_is_named(field, value, expected):
  with pytest.raises(ValueError, match=f'bert: {field}=.*: expected {expected}'):
    presets.architecture('bert', **{field: value})
  edges = dict(num_layers=1000, pad_token_id=0, initializer_range=0, hidden_dropout=0.0)
  assert presets.architecture('bert', **edges, classifier_dropout=None).num_layers == 1000
