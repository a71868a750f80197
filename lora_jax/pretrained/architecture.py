"""Architectures from Hugging Face's config.json, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_jax import errors
from lora_jax.models.deberta import DebertaConfig
from lora_jax.models.encoder import EncoderConfig
from lora_jax.models.gpt2 import GPT2Config
from lora_jax.models.llama import LlamaConfig
from lora_jax.models.presets import LLAMAS, Config, check
from lora_jax.pretrained import llama
from lora_jax.pretrained.labels import fields as label_fields

Values = Mapping[str, Any]  # The JSON object in a config.json.
# Other names of an activation, and the keys that hold one.
ALIASES = {'swish': 'silu', 'gelu_pytorch_tanh': 'gelu_new'}
ACTIVATIONS = ('hidden_act', 'activation_function', 'conv_act')
GPT2_ALIASES = {  # transformers reads both (GPT2Config.attribute_map).
  'hidden_size': 'n_embd',
  'num_hidden_layers': 'n_layer',
  'num_attention_heads': 'n_head',
  'max_position_embeddings': 'n_positions',
}


def from_hugging_face(values: Values, where: str = 'config.json') -> Config:
  """The architecture that a Hugging Face config.json describes.

  Raises:
    ValueError: naming `where` and every value in it that this package does not support.
  """
  parsers = {
    'bert': _from_bert,
    'roberta': _from_bert,
    'deberta-v2': _from_deberta,
    'gpt2': _from_gpt2,
    **dict.fromkeys(LLAMAS, llama.from_hugging_face),
  }
  model_type = values.get('model_type')
  if not isinstance(model_type, str) or model_type not in parsers:
    raise ValueError(
      f'{where}: unsupported model_type={model_type!r}. {errors.nearest(str(model_type), parsers)}'
    )
  named = {key: values[key] for key in ACTIVATIONS if key in values}
  aliased = {key: ALIASES[name] for key, name in named.items() if str(name) in ALIASES}
  try:
    config, fixed = parsers[model_type](dict(values) | aliased)
  except KeyError as error:
    raise ValueError(
      f'{where}: a {model_type} model needs the key {error}, which is missing'
    ) from None
  except llama.UnsupportedError as error:
    raise ValueError(f'{where}: {error}') from None
  except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
    raise ValueError(
      f'{where}: a value of another type than transformers writes: {error}'
    ) from error
  problems = [
    f'{key}={values[key]!r}; supported: {allowed!r}'
    for key, allowed in fixed.items()
    if values.get(key, allowed) != allowed
  ]
  if problems:
    raise ValueError(f'{where}: {". ".join(problems)}')
  return check(config, where)


def to_hugging_face(
  config: Config, num_labels: int | None = None, label_names: Sequence[str] = ()
) -> dict[str, Any]:
  """The config.json of a model; the inverse of `from_hugging_face`.

  Args:
    config: the architecture.
    num_labels: outputs of the classifier, where 1 is a regression; None means as many as `config`
      has. Ignored for a language model.
    label_names: names of the classes; none writes `LABEL_0`, ...
  """
  if isinstance(config, LlamaConfig):
    return llama.to_hugging_face(config, num_labels, label_names)
  if isinstance(config, GPT2Config):
    return {
      'architectures': ['GPT2LMHeadModel'],
      'model_type': 'gpt2',
      'vocab_size': config.vocab_size,
      'n_positions': config.max_positions,
      'n_embd': config.hidden_size,
      'n_layer': config.num_layers,
      'n_head': config.num_heads,
      'n_inner': config.intermediate_size,
      'activation_function': config.activation,
      'layer_norm_epsilon': config.norm_epsilon,
      'initializer_range': config.initializer_range,
      'embd_pdrop': config.embedding_dropout,
      'resid_pdrop': config.hidden_dropout,
      'attn_pdrop': config.attention_dropout,
      'tie_word_embeddings': True,
      'bos_token_id': config.vocab_size - 1,  # <|endoftext|>, the last of the vocabulary.
      'eos_token_id': config.vocab_size - 1,
    }
  labels = config.num_labels if num_labels is None else num_labels
  kind = {'bert': 'Bert', 'roberta': 'Roberta', 'deberta-v2': 'DebertaV2'}[config.family]
  values = {
    'architectures': [f'{kind}ForSequenceClassification'],
    'model_type': config.family,
    'vocab_size': config.vocab_size,
    'hidden_size': config.hidden_size,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'intermediate_size': config.intermediate_size,
    'hidden_act': config.activation,
    'layer_norm_eps': config.norm_epsilon,
    'initializer_range': config.initializer_range,
    'pad_token_id': config.pad_token_id,
    'type_vocab_size': config.type_vocab_size,
    'hidden_dropout_prob': config.hidden_dropout,
    'attention_probs_dropout_prob': config.attention_dropout,
    **label_fields(labels, label_names),
    'problem_type': 'regression' if labels == 1 else 'single_label_classification',
  }
  if not isinstance(config, DebertaConfig):
    return values | {
      'max_position_embeddings': config.position_rows,
      'position_embedding_type': 'absolute',
      'classifier_dropout': config.classifier_dropout,
    }
  values |= {
    'max_position_embeddings': config.max_positions,
    'max_relative_positions': -1,
    'position_buckets': config.position_buckets,
    'relative_attention': True,
    'position_biased_input': False,
    'share_att_key': True,
    'norm_rel_ebd': 'layer_norm',
    'pos_att_type': ['p2c', 'c2p'],
    'pooler_hidden_size': config.hidden_size,
    'pooler_hidden_act': 'gelu',
    'pooler_dropout': 0,
    'cls_dropout': config.classifier_dropout,
  }
  if config.convolution:
    values |= {
      'conv_kernel_size': config.convolution,
      'conv_act': config.convolution_activation,
    }
  return values


def _from_bert(values: Values) -> tuple[EncoderConfig, Values]:
  """The architecture, and the only supported value of each key that is not part of it."""
  family = values['model_type']
  roberta = family == 'roberta'
  pad = values.get('pad_token_id', 1 if roberta else 0)
  # RoBERTa numbers positions from the padding id + 1; the rows before that are never used.
  offset = pad + 1 if roberta else 0
  config = EncoderConfig(
    family=family,
    vocab_size=values['vocab_size'],
    max_positions=values['max_position_embeddings'] - offset,
    position_offset=offset,
    type_vocab_size=values.get('type_vocab_size', 2),
    hidden_size=values['hidden_size'],
    num_layers=values['num_hidden_layers'],
    num_heads=values['num_attention_heads'],
    intermediate_size=values['intermediate_size'],
    activation=values.get('hidden_act', 'gelu'),
    norm_epsilon=values.get('layer_norm_eps', 1e-12),
    initializer_range=values.get('initializer_range', 0.02),
    pad_token_id=pad,
    hidden_dropout=values.get('hidden_dropout_prob', 0.1),
    attention_dropout=values.get('attention_probs_dropout_prob', 0.1),
    classifier_dropout=values.get('classifier_dropout'),
    num_labels=_num_labels(values),
  )
  fixed = {
    'position_embedding_type': 'absolute',
    'is_decoder': False,
    'add_cross_attention': False,
  }
  return config, fixed


def _from_deberta(values: Values) -> tuple[DebertaConfig, Values]:
  limit, convolution = values.get('max_relative_positions', -1), values.get('conv_kernel_size', 0)
  config = DebertaConfig(
    vocab_size=values['vocab_size'],
    max_positions=limit if limit > 0 else values.get('max_position_embeddings', 512),
    position_buckets=values['position_buckets'],
    hidden_size=values['hidden_size'],
    num_layers=values['num_hidden_layers'],
    num_heads=values['num_attention_heads'],
    intermediate_size=values['intermediate_size'],
    activation=values.get('hidden_act', 'gelu'),
    convolution=convolution,
    convolution_activation=values.get('conv_act', 'tanh') if convolution else 'gelu',
    norm_epsilon=values.get('layer_norm_eps', 1e-7),
    initializer_range=values.get('initializer_range', 0.02),
    pad_token_id=values.get('pad_token_id', 0),
    hidden_dropout=values.get('hidden_dropout_prob', 0.1),
    attention_dropout=values.get('attention_probs_dropout_prob', 0.1),
    classifier_dropout=values.get('cls_dropout'),
    num_labels=_num_labels(values),
  )
  kinds = values['pos_att_type']
  kinds = kinds.lower().split('|') if isinstance(kinds, str) else kinds or ()
  both = {kind.strip() for kind in kinds} == {'c2p', 'p2c'}
  needed = {  # A config.json without one of these keys means another value.
    'relative_attention': True,
    'position_biased_input': False,
    'share_att_key': True,
    'norm_rel_ebd': 'layer_norm',
  }
  _ = [values[key] for key in needed]
  fixed = {
    **needed,
    'pos_att_type': values['pos_att_type'] if both else ['c2p', 'p2c'],
    'type_vocab_size': 0,
    'embedding_size': config.hidden_size,
    'attention_head_size': config.hidden_size // config.num_heads,
    'conv_groups': 1,
    'pooler_hidden_size': config.hidden_size,
    'pooler_hidden_act': 'gelu',
    'pooler_dropout': 0,
  }
  return config, fixed


def _from_gpt2(values: Values) -> tuple[GPT2Config, Values]:
  aliases = {alias: name for alias, name in GPT2_ALIASES.items() if alias in values}
  values = {name: values[alias] for alias, name in aliases.items()} | dict(values)
  width = values['n_embd']
  config = GPT2Config(
    vocab_size=values['vocab_size'],
    max_positions=values.get('n_positions', 1024),
    hidden_size=width,
    num_layers=values['n_layer'],
    num_heads=values['n_head'],
    intermediate_size=values.get('n_inner') or 4 * width,
    activation=values.get('activation_function', 'gelu_new'),
    norm_epsilon=values.get('layer_norm_epsilon', 1e-5),
    initializer_range=values.get('initializer_range', 0.02),
    embedding_dropout=values.get('embd_pdrop', 0.1),
    hidden_dropout=values.get('resid_pdrop', 0.1),
    attention_dropout=values.get('attn_pdrop', 0.1),
  )
  fixed = {
    'scale_attn_weights': True,
    'scale_attn_by_inverse_layer_idx': False,
    'add_cross_attention': False,
    'tie_word_embeddings': True,
    **{alias: values[name] for alias, name in aliases.items()},  # Both names say the same.
  }
  return config, fixed


def _num_labels(values: Values) -> int:
  if 'id2label' in values:
    return len(values['id2label'])
  return values.get('num_labels', 2)
