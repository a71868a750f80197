"""The toy Llamas of golden/models as GGUF files, written by the format's own package."""

import json
import pathlib

import gguf
import numpy as np
from gguf import quants
from tokenizers.pre_tokenizers import ByteLevel

from lora_jax.pretrained import gguf_file, safetensors

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'models'
TYPES = gguf.GGMLQuantizationType
NORMAL, CONTROL, ADDED = 1, 3, 4


def write(path, case, *, kind=None, change=None, extra=None, split='smollm', bos=None):
  """Writes a golden's model, or a folder's, its matrices in a quantization.

  `change` are further values of the header, `extra` further tensors, `bos` whether texts begin with
  a token, if the header says so.
  """
  config = json.loads((GOLDEN / case / 'config.json').read_text())
  name = config['model_type']
  writer = gguf.GGUFWriter(path, name)
  values = {
    'block_count': config['num_hidden_layers'],
    'context_length': config['max_position_embeddings'],
    'embedding_length': config['hidden_size'],
    'feed_forward_length': config['intermediate_size'],
    'attention.head_count': config['num_attention_heads'],
    'attention.head_count_kv': config['num_key_value_heads'],
    'attention.key_length': config['head_dim'] if config.get('head_dim') else 6,
  }
  for key, value in values.items():
    writer.add_uint32(f'{name}.{key}', value)
  writer.add_float32(f'{name}.attention.layer_norm_rms_epsilon', config['rms_norm_eps'])
  rope = config.get('rope_parameters', config)
  writer.add_float32(f'{name}.rope.freq_base', rope['rope_theta'])
  for key, value in (change or {}).items():
    add = writer.add_string if isinstance(value, str) else writer.add_uint32
    add(f'{name}.{key}', value)
  vocabulary(writer, split)
  if bos is not None:
    writer.add_add_bos_token(bos)
  for key, x in {**safetensors.read(GOLDEN / case), **(extra or {})}.items():
    add_tensor(writer, key, np.array(x), config, kind)
  for step in ('header', 'kv_data', 'tensors'):
    getattr(writer, f'write_{step}_to_file')()
  writer.close()


def add_tensor(writer, key, x, config, kind):
  module, _, leaf = key.rpartition('.')
  inside = module.removeprefix('model.').split('.')
  layer = f'blk.{inside[1]}.' if inside[0] == 'layers' else ''
  other = {there: here for here, there in gguf_file.NAMES.items()}
  name = other.get('.'.join(inside[2:] if layer else inside), key)
  if config['model_type'] == 'llama' and name in ('attn_q', 'attn_k'):
    heads = config['num_attention_heads' if name == 'attn_q' else 'num_key_value_heads']
    x = x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)  # llama.cpp's order.
  full = key if name == key else f'{layer}{name}.{leaf}'
  if kind is None or x.ndim < 2:
    writer.add_tensor(full, np.ascontiguousarray(x))
  else:
    writer.add_tensor(full, quants.quantize(x, kind), raw_dtype=kind)


def vocabulary(writer, split):
  """The bytes, three merges and a word without any, two control tokens, and an added one."""
  tokens = ['<|endoftext|>', '<|im_end|>', *sorted(ByteLevel.alphabet()), 'th', 'the', '12']
  others = {'hen': NORMAL, '<think>': ADDED}
  writer.add_tokenizer_model('gpt2')
  writer.add_tokenizer_pre(split)
  writer.add_token_list([*tokens, *others])
  types = [CONTROL, CONTROL] + [NORMAL] * (len(tokens) - 2)
  writer.add_token_types([*types, *others.values()])
  writer.add_token_merges(['t h', 'th e', '1 2'])
  writer.add_bos_token_id(1)
