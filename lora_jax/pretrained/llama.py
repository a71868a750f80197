"""Architectures of the Llama family from Hugging Face's config.json, and back.

transformers 4 writes `rope_theta` and `rope_scaling`, transformers 5 `rope_parameters` with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_jax.models.llama import LlamaConfig
from lora_jax.pretrained.labels import fields as label_fields

Values = dict[str, Any]  # The JSON object in a config.json.
NAMES = {'llama': 'Llama', 'mistral': 'Mistral', 'qwen2': 'Qwen2', 'qwen3': 'Qwen3'}
WINDOW = 4096  # Mistral's `sliding_window`, where a config.json has none.
HEAD_WIDTHS = {'qwen3': 128}  # `head_dim`, where a config.json has none; else it is a share.
BIASABLE = ('llama', 'qwen3')  # Where `attention_bias` is a choice; elsewhere no one reads it.
THETAS = {'llama': 10000.0, 'mistral': 10000.0, 'qwen2': 10000.0, 'qwen3': 10000.0}
# Keys of Llama 3's `rope_scaling`, and the fields that hold them.
SCALING = {
  'factor': 'rope_factor',
  'low_freq_factor': 'rope_low',
  'high_freq_factor': 'rope_high',
  'original_max_position_embeddings': 'rope_original',
}


class UnsupportedError(ValueError):
  """What a config.json asks for, and is not computed here."""


def from_hugging_face(values: Values) -> tuple[LlamaConfig, Values]:
  """The architecture, and the only supported value of each key that is not part of it.

  Raises:
    UnsupportedError: for rotary positions that are scaled in another way than Llama 3's; for a
      Mistral whose window is shorter than its positions.
    KeyError: for a key that is missing.
  """
  family, heads = values['model_type'], values['num_attention_heads']
  rope = dict(values.get('rope_scaling') or {}) | dict(values.get('rope_parameters') or {})
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if kind not in ('default', 'llama3'):
    raise UnsupportedError(f'rotary positions of type {kind!r}; supported: default, llama3')
  scaled = {field: rope[key] for key, field in SCALING.items()} if kind == 'llama3' else {}
  config = LlamaConfig(
    family=family,
    vocab_size=values['vocab_size'],
    max_positions=values['max_position_embeddings'],
    hidden_size=values['hidden_size'],
    num_layers=values['num_hidden_layers'],
    num_heads=heads,
    num_kv_heads=values.get('num_key_value_heads') or heads,
    head_width=values.get('head_dim', HEAD_WIDTHS.get(family)) or values['hidden_size'] // heads,
    intermediate_size=values['intermediate_size'],
    activation=values.get('hidden_act', 'silu'),
    norm_epsilon=values.get('rms_norm_eps', 1e-6),
    initializer_range=values.get('initializer_range', 0.02),
    rope_theta=float(rope.get('rope_theta', values.get('rope_theta', THETAS[family]))),
    biased=family == 'qwen2' or (family in BIASABLE and values.get('attention_bias', False)),
    normed=family == 'qwen3',
    tied=values.get('tie_word_embeddings', False),
    attention_dropout=values.get('attention_dropout', 0.0),
    num_labels=len(values['id2label']) if 'id2label' in values else values.get('num_labels', 2),
    **scaled,
  )
  fixed: Values = {
    'attention_bias': config.output_biased,
    'mlp_bias': False,
    'use_sliding_window': False,
    'layer_types': ['full_attention'] * config.num_layers,
  }
  window = values.get('sliding_window', WINDOW) if family == 'mistral' else None
  if window is not None and window < config.max_positions:  # One that no row exceeds is none.
    raise UnsupportedError(
      f'sliding_window={window}: attention to that many tokens alone is not computed. Supported '
      f'are null, and at least max_position_embeddings, {config.max_positions}: to train on texts '
      f'of at most {window} tokens, lower that to {window}.'
    )
  return config, fixed


def to_hugging_face(
  config: LlamaConfig, num_labels: int | None, label_names: Sequence[str] = ()
) -> Values:
  """The config.json of a model, or of a classifier, which transformers 4 and 5 read."""
  values: Values = {
    'architectures': [
      f'{NAMES[config.family]}For{"CausalLM" if num_labels is None else "SequenceClassification"}'
    ],
    'model_type': config.family,
    'vocab_size': config.vocab_size,
    'max_position_embeddings': config.max_positions,
    'hidden_size': config.hidden_size,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'num_key_value_heads': config.num_kv_heads,
    'head_dim': config.head_width,
    'intermediate_size': config.intermediate_size,
    'hidden_act': config.activation,
    'rms_norm_eps': config.norm_epsilon,
    'initializer_range': config.initializer_range,
    'rope_theta': config.rope_theta,
    'tie_word_embeddings': config.tied,
    'attention_dropout': config.attention_dropout,
  }
  if config.rope_factor != 1:
    scaling = {key: getattr(config, field) for key, field in SCALING.items()}
    values['rope_scaling'] = {'rope_type': 'llama3', **scaling}
  if num_labels is not None:
    values |= label_fields(num_labels, label_names)
  if config.family in BIASABLE:
    values['attention_bias'] = config.biased
  if config.family == 'mistral':
    values['sliding_window'] = None
  return values
