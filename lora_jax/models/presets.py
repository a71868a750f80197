"""Published architectures by name, and architectures from Hugging Face's config.json."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lora_jax.models.deberta import Deberta, DebertaConfig
from lora_jax.models.encoder import Encoder, EncoderConfig
from lora_jax.models.gpt2 import GPT2, GPT2Config
from lora_jax.models.layers import ACTIVATIONS

Config = EncoderConfig | DebertaConfig | GPT2Config
FAMILIES: dict[str, type[Config]] = {
  'bert': EncoderConfig,
  'roberta': EncoderConfig,
  'deberta-v2': DebertaConfig,
  'gpt2': GPT2Config,
}
MODELS = {'bert': Encoder, 'roberta': Encoder, 'deberta-v2': Deberta, 'gpt2': GPT2}
TASKS = {
  'bert': ('classification', 'regression'),
  'roberta': ('classification', 'regression'),
  'deberta-v2': ('classification', 'regression'),
  'gpt2': ('lm',),
}


class Preset(NamedTuple):
  """An architecture and the Hugging Face repository that holds its pretrained weights.

  No repository: nobody has published the weights, and only its size can be reckoned with
  (`experiments.plan`). `files` are those that are needed beside what most repositories have.
  """

  config: Config
  repository: str = ''
  files: tuple[str, ...] = ()


def _bert(**sizes: Any) -> EncoderConfig:
  return EncoderConfig(family='bert', **sizes)


def _roberta(**sizes: Any) -> EncoderConfig:
  return EncoderConfig(
    family='roberta', vocab_size=50265, position_offset=2, type_vocab_size=1, norm_epsilon=1e-5,
    pad_token_id=1, **sizes,
  )  # fmt: skip


def _gpt2(hidden_size: int, num_layers: int, num_heads: int, **sizes: int) -> GPT2Config:
  return GPT2Config(
    hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads,
    intermediate_size=4 * hidden_size, **sizes,
  )  # fmt: skip


def _gpt3(hidden_size: int, num_layers: int, num_heads: int) -> Preset:
  return Preset(_gpt2(hidden_size, num_layers, num_heads, max_positions=2048))


XXLARGE = DebertaConfig(
  hidden_size=1536, num_layers=48, num_heads=24, intermediate_size=6144, convolution=3
)
DEBERTA = ('spm.model', 'pytorch_model.bin')  # There is no safetensors file.
LARGE = dict(hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096)
PRESETS: dict[str, Preset] = {
  'bert-base-uncased': Preset(_bert(), 'google-bert/bert-base-uncased'),
  'bert-large-uncased': Preset(_bert(**LARGE), 'google-bert/bert-large-uncased'),
  'roberta-base': Preset(_roberta(), 'FacebookAI/roberta-base'),
  'roberta-large': Preset(_roberta(**LARGE), 'FacebookAI/roberta-large'),
  'deberta-v3-base': Preset(DebertaConfig(), 'microsoft/deberta-v3-base', DEBERTA),
  'deberta-v2-xxlarge': Preset(XXLARGE, 'microsoft/deberta-v2-xxlarge', DEBERTA),
  'gpt2': Preset(_gpt2(768, 12, 12), 'openai-community/gpt2'),
  'gpt2-medium': Preset(_gpt2(1024, 24, 16), 'openai-community/gpt2-medium'),
  'gpt2-large': Preset(_gpt2(1280, 36, 20), 'openai-community/gpt2-large'),
  'gpt2-xl': Preset(_gpt2(1600, 48, 25), 'openai-community/gpt2-xl'),
  # GPT-3 (Brown et al. 2020, table 2.1), all of its attention dense. Of 1.3B the table's 24 heads
  # of 128 are not its width, of 13B its width of 5140 is not 40 heads of 128.
  'gpt3-125m': _gpt3(768, 12, 12),
  'gpt3-350m': _gpt3(1024, 24, 16),
  'gpt3-760m': _gpt3(1536, 24, 16),
  'gpt3-1.3b': _gpt3(2048, 24, 16),
  'gpt3-2.7b': _gpt3(2560, 32, 32),
  'gpt3-6.7b': _gpt3(4096, 32, 32),
  'gpt3-13b': _gpt3(5120, 40, 40),
  'gpt3-175b': _gpt3(12288, 96, 96),
}


def architecture(family: str, **fields: Any) -> Config:
  """An architecture from plain values; what is not given is as in the family's base size.

  Raises:
    ValueError: for an unknown family or field (near names offered), sizes that do not fit.
  """
  if family not in FAMILIES:
    raise ValueError(f'family={family!r}: {near(family, FAMILIES)}')
  kind = FAMILIES[family]
  known = [field.name for field in dataclasses.fields(kind) if field.name != 'family']
  if unknown := [name for name in fields if name not in known]:
    problems = (f'{name!r}: {near(name, known)}' for name in unknown)
    raise ValueError(f'{family} has no such field as {"; ".join(problems)}')
  if 'hidden_size' in fields and 'intermediate_size' not in fields:
    fields['intermediate_size'] = 4 * fields['hidden_size']
  base = _roberta() if family == 'roberta' else kind(family=family)
  return check(dataclasses.replace(base, **fields), family)


def from_hugging_face(values: Mapping[str, Any], where: str = 'config.json') -> Config:
  """The architecture that a Hugging Face config.json describes.

  Raises:
    ValueError: naming `where` and everything in it that this package does not compute.
  """
  parsers = {
    'bert': _from_bert,
    'roberta': _from_bert,
    'deberta-v2': _from_deberta,
    'gpt2': _from_gpt2,
  }
  model_type = values.get('model_type')
  if model_type not in parsers:
    raise ValueError(f'{where}: model_type={model_type!r}; supported: {", ".join(parsers)}')
  try:
    config, fixed = parsers[model_type](values)
  except KeyError as error:
    raise ValueError(f'{where}: {model_type} needs the key {error}, which is missing') from None
  problems = [
    f'{key}={values[key]!r}; supported: {allowed!r}'
    for key, allowed in fixed.items()
    if values.get(key, allowed) != allowed
  ]
  if problems:
    raise ValueError(f'{where}: {". ".join(problems)}')
  return check(config, where)


def to_hugging_face(config: Config, num_labels: int | None = None) -> dict[str, Any]:
  """The config.json of a model; the inverse of `from_hugging_face`.

  Args:
    config: the architecture.
    num_labels: outputs of the classifier; 1 is a regression; ignored for a language model.
  """
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
  names = [f'LABEL_{i}' for i in range(labels)]
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
    'num_labels': labels,
    'id2label': {str(i): name for i, name in enumerate(names)},
    'label2id': {name: i for i, name in enumerate(names)},
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


def build(
  config: Config, *, task: str, num_labels: int | None = None, **options: Any
) -> Encoder | GPT2:
  """The model of an architecture for a task; `options` are the model's other attributes.

  Raises:
    ValueError: for a task that the architecture does not do, or labels that do not fit it.
  """
  tasks = TASKS[config.family]
  if task not in tasks:
    raise ValueError(f'task={task!r}: a {config.family} model does {" or ".join(tasks)}')
  if isinstance(config, GPT2Config):
    if options.pop('classifier_dropout', None) is not None:
      raise ValueError('classifier_dropout: a language model has no classifier')
    return GPT2(config, **options)
  if task == 'regression':
    if num_labels not in (None, 1):
      raise ValueError(f'num_labels={num_labels}: regression has 1 output')
    num_labels = 1
  elif num_labels is None:
    num_labels = config.num_labels
  if num_labels < 1:
    raise ValueError(f'num_labels={num_labels}: a head has at least 1 output')
  return MODELS[config.family](config, num_labels=num_labels, **options)


def near(name: str, known: Iterable[str]) -> str:
  """`did you mean ...? Known: ...`, for an error about a name."""
  known = list(known)
  guesses = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
  start = f'did you mean {" or ".join(guesses)}? ' if guesses else ''
  return f'{start}Known: {", ".join(known)}'


def check(config: Config, where: str) -> Config:
  """The config, if its sizes fit and its activation is known.

  Raises:
    ValueError: naming `where` and the sizes.
  """
  for name in ('activation', 'convolution_activation'):
    if (value := getattr(config, name, 'gelu')) not in ACTIVATIONS:
      raise ValueError(f'{where}: {name} {value!r}; supported: {list(ACTIVATIONS)}')
  if config.hidden_size % config.num_heads:
    raise ValueError(
      f'{where}: a width of {config.hidden_size} does not divide into {config.num_heads} heads'
    )
  if isinstance(config, DebertaConfig):
    buckets, limit = config.position_buckets, config.max_positions
    if not 4 <= buckets < 2 * (limit - 1):
      raise ValueError(
        f'{where}: {buckets} position buckets for distances up to {limit}; supported: at least 4, '
        f'and less than {2 * (limit - 1)}'
      )
    if config.convolution and config.convolution % 2 == 0:
      raise ValueError(f'{where}: a convolution of {config.convolution} tokens; supported: odd')
  return config


def _from_bert(values: Mapping[str, Any]) -> tuple[EncoderConfig, dict[str, Any]]:
  """The architecture, and the keys that have one supported value."""
  family = values['model_type']
  roberta = family == 'roberta'
  pad = values.get('pad_token_id', 1 if roberta else 0)
  # RoBERTa counts positions from the padding id + 1; the rows before that are never used.
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


def _from_deberta(values: Mapping[str, Any]) -> tuple[DebertaConfig, dict[str, Any]]:
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
  needed = {  # By their absence a config.json says otherwise.
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


def _from_gpt2(values: Mapping[str, Any]) -> tuple[GPT2Config, dict[str, Any]]:
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
  }
  return config, fixed


def _num_labels(values: Mapping[str, Any]) -> int:
  if 'id2label' in values:
    return len(values['id2label'])
  return values.get('num_labels', 2)
