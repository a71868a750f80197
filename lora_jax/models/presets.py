"""Published architectures by name, and the models of an architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from lora_jax import errors
from lora_jax.models.deberta import Deberta, DebertaConfig
from lora_jax.models.encoder import Encoder, EncoderConfig
from lora_jax.models.gpt2 import GPT2, GPT2Config
from lora_jax.models.heads import LLAMAS
from lora_jax.models.llama import Llama, LlamaConfig
from lora_jax.ops import ACTIVATIONS

Config = EncoderConfig | DebertaConfig | GPT2Config | LlamaConfig
Model = Encoder | GPT2 | Llama  # Deberta is an Encoder.
FAMILIES: dict[str, type[Config]] = {
  'bert': EncoderConfig,
  'roberta': EncoderConfig,
  'deberta-v2': DebertaConfig,
  'gpt2': GPT2Config,
  **dict.fromkeys(LLAMAS, LlamaConfig),
}
MODELS = {
  'bert': Encoder,
  'roberta': Encoder,
  'deberta-v2': Deberta,
  'gpt2': GPT2,
  **dict.fromkeys(LLAMAS, Llama),
}
TASKS = {
  'bert': ('classification', 'regression'),
  'roberta': ('classification', 'regression'),
  'deberta-v2': ('classification', 'regression'),
  'gpt2': ('lm',),
  **dict.fromkeys(LLAMAS, ('lm', 'classification', 'regression')),
}
# Sizes of an architecture, beyond which it is a damaged file rather than a model.
LARGEST, DEEPEST = 1 << 24, 1000
MAY_BE_ZERO = ('position_offset', 'type_vocab_size', 'convolution', 'pad_token_id')
# A model's arguments that a batch holds.
INPUTS = ('input_ids', 'segment_ids', 'position_ids', 'token_type_ids', 'prediction_positions')
TOKENS = jax.ShapeDtypeStruct((1, 1), np.int32)  # Ids [rows, length], for `init` by shapes alone.


class Preset(NamedTuple):
  """An architecture and the Hugging Face repository that holds its pretrained weights.

  An empty repository means that the weights are not published, so that only plans can use the
  preset (`experiments.plan`). `files` are the files that this one needs beyond the usual ones.
  """

  config: Config
  repository: str = ''
  files: tuple[str, ...] = ()


def _bert(**sizes: Any) -> EncoderConfig:
  return EncoderConfig(family='bert', **sizes)


def _roberta(**sizes: Any) -> EncoderConfig:
  return EncoderConfig(
    family='roberta',
    vocab_size=50265,
    position_offset=2,
    type_vocab_size=1,
    norm_epsilon=1e-5,
    pad_token_id=1,
    **sizes,
  )


def _gpt2(
  hidden_size: int, num_layers: int, num_heads: int, max_positions: int = 1024
) -> GPT2Config:
  return GPT2Config(
    hidden_size=hidden_size,
    num_layers=num_layers,
    num_heads=num_heads,
    intermediate_size=4 * hidden_size,
    max_positions=max_positions,
  )


def _gpt3(hidden_size: int, num_layers: int, num_heads: int) -> Preset:
  return Preset(_gpt2(hidden_size, num_layers, num_heads, max_positions=2048))


def _llama(
  hidden_size: int,
  num_layers: int,
  num_heads: int,
  num_kv_heads: int,
  intermediate_size: int,
  repository: str = '',
  **others: Any,
) -> Preset:
  config = LlamaConfig(
    hidden_size=hidden_size,
    num_layers=num_layers,
    num_heads=num_heads,
    num_kv_heads=num_kv_heads,
    head_width=hidden_size // num_heads,
    intermediate_size=intermediate_size,
    **others,
  )
  return Preset(config, repository)


XXLARGE = DebertaConfig(
  hidden_size=1536, num_layers=48, num_heads=24, intermediate_size=6144, convolution=3
)
DEBERTA = ('spm.model', 'pytorch_model.bin')  # There is no safetensors file.
SMOLLM2 = dict(vocab_size=49152, max_positions=8192, rope_theta=100000.0, tied=True)
LLAMA3 = dict(vocab_size=128256, max_positions=8192, rope_theta=500000.0)
LLAMA3_2 = LLAMA3 | dict(max_positions=131072, rope_factor=32.0, tied=True)
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
  # The sizes of each repository's config.json.
  'smollm2-135m': _llama(576, 30, 9, 3, 1536, 'HuggingFaceTB/SmolLM2-135M', **SMOLLM2),
  'smollm2-360m': _llama(960, 32, 15, 5, 2560, 'HuggingFaceTB/SmolLM2-360M', **SMOLLM2),
  'smollm2-1.7b': _llama(
    2048, 24, 32, 32, 8192, 'HuggingFaceTB/SmolLM2-1.7B', **SMOLLM2 | {'rope_theta': 130000.0}
  ),
  'tinyllama-1.1b': _llama(
    2048, 22, 32, 4, 5632, 'TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T', max_positions=2048
  ),
  'llama-2-7b': _llama(4096, 32, 32, 32, 11008, 'meta-llama/Llama-2-7b-hf'),
  'llama-2-13b': _llama(5120, 40, 40, 40, 13824, 'meta-llama/Llama-2-13b-hf'),
  'llama-2-70b': _llama(8192, 80, 64, 8, 28672, 'meta-llama/Llama-2-70b-hf'),
  'llama-3-8b': _llama(4096, 32, 32, 8, 14336, 'meta-llama/Meta-Llama-3-8B', **LLAMA3),
  'llama-3-70b': _llama(8192, 80, 64, 8, 28672, 'meta-llama/Meta-Llama-3-70B', **LLAMA3),
  'llama-3.2-1b': _llama(2048, 16, 32, 8, 8192, 'meta-llama/Llama-3.2-1B', **LLAMA3_2),
  'llama-3.2-3b': _llama(3072, 28, 24, 8, 8192, 'meta-llama/Llama-3.2-3B', **LLAMA3_2),
}


def architecture(family: str, **fields: Any) -> Config:
  """An architecture from plain values; what is not given is as in the family's base size.

  Raises:
    ValueError: for an unknown family or field (near names offered), sizes that do not fit.
  """
  if family not in FAMILIES:
    raise ValueError(f'family={family!r}: no such family. {errors.nearest(family, FAMILIES)}')
  kind = FAMILIES[family]
  known = [field.name for field in dataclasses.fields(kind) if field.name != 'family']
  if unknown := [name for name in fields if name not in known]:
    problems = (
      f'{family} has no field {name!r}. {errors.nearest(name, known)}' for name in unknown
    )
    raise ValueError(' '.join(problems))
  if 'hidden_size' in fields and 'intermediate_size' not in fields:
    fields['intermediate_size'] = 4 * fields['hidden_size']
  if kind is LlamaConfig:
    fields = dict[str, Any](_llama_fields(family, fields))
  base = _roberta() if family == 'roberta' else kind(family=family)
  return check(dataclasses.replace(base, **fields), family)


def _llama_fields(family: str, fields: Mapping[str, int]) -> dict[str, int]:
  """The fields with those that follow from the family, or from sizes that are given."""
  own: dict[str, int] = {'biased': family == 'qwen2', 'normed': family == 'qwen3'}
  if 'num_heads' in fields:
    own['num_kv_heads'] = fields['num_heads']
    if 'hidden_size' in fields:
      own['head_width'] = fields['hidden_size'] // fields['num_heads']
  return own | dict(fields)


def is_decoder(config: Config) -> bool:
  """Whether the last token of a text has seen the others, and not every token all of them."""
  return 'lm' in TASKS[config.family]


def build(config: Config, *, task: str, num_labels: int | None = None, **options: Any) -> Model:
  """The model of an architecture for a task; `options` are the model's other attributes.

  Raises:
    ValueError: for a task that the architecture does not do, or labels that do not fit it.
  """
  tasks = TASKS[config.family]
  if task not in tasks:
    need = ' Prompts, completions and chats need a language model.' if task == 'lm' else ''
    raise ValueError(f'task={task!r}: a {config.family} model does {" or ".join(tasks)}.{need}')
  if is_decoder(config) and options.pop('classifier_dropout', None) is not None:
    raise ValueError('classifier_dropout: a language model has none')
  if isinstance(config, GPT2Config):
    return GPT2(config, **options)
  if task == 'lm':
    return Llama(config, **options)
  if task == 'regression':
    if num_labels not in (None, 1):
      raise ValueError(f'num_labels={num_labels}: regression has 1 output')
    num_labels = 1
  elif num_labels is None:
    num_labels = config.num_labels
  if num_labels < 1:
    raise ValueError(f'num_labels={num_labels}: a head has at least 1 output')
  if isinstance(config, LlamaConfig):
    return Llama(config, num_labels=num_labels, **options)
  if isinstance(config, DebertaConfig):
    return Deberta(config, num_labels=num_labels, **options)
  return Encoder(config, num_labels=num_labels, **options)


def abstract_params(model: nn.Module) -> Mapping[str, Any]:
  """Shapes and dtypes of a model's parameters, as a nested tree; nothing is computed."""
  return jax.eval_shape(model.init, jax.random.key(0), TOKENS)['params']


def _problem(config: Config, field: dataclasses.Field[object]) -> str:
  """What is wrong with a field's value; '' if nothing is."""
  name, value = field.name, getattr(config, field.name)
  for kind, what in ((str, 'a string'), (bool, 'true or false')):
    if field.type == kind.__name__:
      return '' if isinstance(value, kind) else f'{name}={value!r}: expected {what}'
  if value is None and 'None' in str(field.type):
    return ''
  kind, low, high = (int | float, 0, 1) if 'float' in str(field.type) else (int, 1, LARGEST)
  if name.startswith('rope_'):
    low, high = 1, 1 << 40
  if name in MAY_BE_ZERO:
    low = 0
  if name == 'num_layers':
    high = DEEPEST
  fits = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
  excluded = (1,) if name.endswith('dropout') else (0,) if name == 'norm_epsilon' else ()
  if fits and value not in excluded:
    return ''
  what = 'an integer' if kind is int else 'a number'
  less = f', {excluded[0]} excluded' if excluded else ''
  return f'{name}={str(value)[:60]}: expected {what} from {low} to {high}{less}'


def check(config: Config, where: str) -> Config:
  """The config, if its values are of their types and ranges and its sizes fit.

  Raises:
    ValueError: naming `where` and the values.
  """
  if problems := [x for field in dataclasses.fields(config) if (x := _problem(config, field))]:
    raise ValueError(f'{where}: {"; ".join(problems)}')
  for name in ('activation', 'convolution_activation'):
    if (value := getattr(config, name, 'gelu')) not in ACTIVATIONS:
      raise ValueError(f'{where}: {name} {value!r}; supported: {list(ACTIVATIONS)}')
  if isinstance(config, LlamaConfig):
    if config.num_heads % config.num_kv_heads or config.head_width % 2:
      raise ValueError(
        f'{where}: {config.num_kv_heads} heads of keys for {config.num_heads} heads of queries, of '
        f'width {config.head_width}; supported: a divisor, and an even width'
      )
  elif config.hidden_size % config.num_heads:
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
