"""Models in GGUF files, llama.cpp's format: `model=FILE.gguf` wherever a folder is taken."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from lora_jax import errors, extras, gguf_reader, quantization
from lora_jax.models import llama
from lora_jax.pretrained.llama import Values
from lora_jax.pretrained.shards import Index

if TYPE_CHECKING:
  from gguf import ReaderTensor

QUANTIZATIONS = ('F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q8_0', 'Q4_K', 'Q6_K')
KEPT = ('Q4_0', 'Q4_1', 'Q8_0')  # Those whose codes a quantized kernel keeps.
ARCHITECTURES = ('llama', 'qwen2', 'qwen3')
# Names of the file -> Hugging Face's; in a layer, both within that layer.
NAMES = {
  'token_embd': 'embed_tokens',
  'output_norm': 'norm',
  'output': 'lm_head',
  'attn_norm': 'input_layernorm',
  'attn_q': 'self_attn.q_proj',
  'attn_k': 'self_attn.k_proj',
  'attn_v': 'self_attn.v_proj',
  'attn_output': 'self_attn.o_proj',
  'attn_q_norm': 'self_attn.q_norm',
  'attn_k_norm': 'self_attn.k_norm',
  'ffn_norm': 'post_attention_layernorm',
  'ffn_gate': 'mlp.gate_proj',
  'ffn_up': 'mlp.up_proj',
  'ffn_down': 'mlp.down_proj',
}
FREQUENCIES = 'rope_freqs.weight'  # What the lowest frequencies are divided by (Llama 3.1).
FACTORS = (8.0, 32.0)  # Llama 3.1's and 3.2's: a file has their effect, not the number.


class Quantized:
  """A tensor that is dequantized, to float32, when it is used."""

  def __init__(self, tensor: ReaderTensor, heads: int | None):
    self._tensor, self._heads = tensor, heads
    self.shape = tuple(int(n) for n in reversed(tensor.shape))
    self.dtype = np.dtype(np.float32)

  def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
    extras.require('gguf')
    from gguf import quants

    values = quants.dequantize(self._tensor.data, self._tensor.tensor_type).reshape(self.shape)
    return self._ordered(values).astype(dtype or np.float32, copy=False)

  def __getitem__(self, index: Index) -> np.ndarray:
    return np.asarray(self)[index]

  @property
  def kind(self) -> str:
    """The file's name of the tensor's type."""
    return self._tensor.tensor_type.name

  def codes(self) -> quantization.Arrays:
    """The arrays of the kernel, the tensor's transpose, in the codes of the file."""
    rows = np.asarray(self._tensor.data).reshape(self.shape[0], -1)
    return quantization.of_file(self._ordered(rows), self.kind.lower())

  def _ordered(self, rows: np.ndarray) -> np.ndarray:
    """The rows in the model's order: llama.cpp orders those of queries and keys for rotation."""
    if self._heads is None:
      return rows
    split = rows.reshape(self._heads, len(rows) // self._heads // 2, 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


class Tensors(Mapping[str, np.ndarray]):
  """The tensors of a file by Hugging Face's names.

  Raises:
    ValueError: naming the file, if it is damaged, of another architecture or quantization, or holds
      a tensor that no model here has.
  """

  def __init__(self, path: Path):
    reader = gguf_reader.read(path)
    values = config_values(path)
    permuted = values['model_type'] == 'llama'
    heads = {'attn_q': values['num_attention_heads'], 'attn_k': values['num_key_value_heads']}
    self._tensors: dict[str, Quantized] = {}
    problems = []
    for tensor in reader.tensors:
      found = re.fullmatch(r'(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)', tensor.name)
      kind = tensor.tensor_type.name
      if tensor.name == FREQUENCIES:
        continue
      if found is None or found[2] not in NAMES:
        problems.append(f'{tensor.name}: no model here has it')
      elif kind not in QUANTIZATIONS:
        problems.append(f'{tensor.name}: {kind}; read are {", ".join(QUANTIZATIONS)}')
      else:
        name = f'{NAMES[found[2]]}.{found[3]}'
        if found[1] is not None:
          name = f'layers.{found[1]}.{name}'
        name = name if found[2] == 'output' else f'model.{name}'
        rows = heads.get(found[2]) if permuted else None
        self._tensors[name] = Quantized(tensor, rows)
    if problems:
      raise ValueError(f'{path}: {errors.listed(problems, limit=4)}')

  def __getitem__(self, name: str) -> np.ndarray:
    # All that readers of tensors use of an array.
    return cast(np.ndarray, self._tensors[name])

  def kind(self, name: str) -> str:
    """The type of a tensor, as 'Q4_1'; '' if the file has none of the name."""
    return self._tensors[name].kind if name in self._tensors else ''

  def codes(self, name: str) -> quantization.Arrays:
    """The arrays of a kernel in the codes of the file, of a type in `KEPT`."""
    return self._tensors[name].codes()

  def __iter__(self) -> Iterator[str]:
    return iter(self._tensors)

  def __len__(self) -> int:
    return len(self._tensors)


def config_values(path: Path) -> Values:
  """What Hugging Face's config.json would say of the model.

  Raises:
    ValueError: naming the file, for another architecture, or a key that is missing.
  """
  fields = gguf_reader.read(path).fields
  get = lambda key: fields[key].contents()
  try:
    kind = get('general.architecture')
    if kind not in ARCHITECTURES or f'{kind}.expert_count' in fields:
      raise ValueError(f'architecture {kind!r}; read are dense models of {list(ARCHITECTURES)}')
    own = lambda key, default=None: get(f'{kind}.{key}') if f'{kind}.{key}' in fields else default
    # A factor without a type is linear; the first files named it otherwise (llama-model.cpp).
    factor = own('rope.scaling.factor', own('rope.scale_linear', 1.0))
    unnamed = 'none' if factor in (0, 1) else 'linear'
    if (scaling := own('rope.scaling.type', unnamed)) != 'none':
      raise ValueError(f'rotary positions scaled by {scaling!r}; read are files without')
    tensors = {tensor.name: tensor for tensor in gguf_reader.read(path).tensors}
    heads, width = get(f'{kind}.attention.head_count'), get(f'{kind}.embedding_length')
    head_dim = own('attention.key_length', width // heads)
    if (turned := own('rope.dimension_count', head_dim)) != head_dim:
      raise ValueError(
        f'{turned} of {head_dim} elements of a head are rotated; read are all of them'
      )
    values = {
      'model_type': kind,
      'vocab_size': int(tensors['token_embd.weight'].shape[1]),
      'max_position_embeddings': get(f'{kind}.context_length'),
      'hidden_size': width,
      'num_hidden_layers': get(f'{kind}.block_count'),
      'num_attention_heads': heads,
      'num_key_value_heads': own('attention.head_count_kv', heads),
      'head_dim': head_dim,
      'intermediate_size': get(f'{kind}.feed_forward_length'),
      'rms_norm_eps': _shortest(get(f'{kind}.attention.layer_norm_rms_epsilon')),
      'rope_theta': _shortest(own('rope.freq_base') or 10000.0),
      'tie_word_embeddings': 'output.weight' not in tensors,
      'attention_bias': 'blk.0.attn_output.bias' in tensors,
    }
  except (KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError) as error:
    raise ValueError(f'{path}: a key of its header is missing or damaged ({error!r})') from error
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  if FREQUENCIES in tensors:
    values['rope_scaling'] = _scaling(path, values, np.asarray(tensors[FREQUENCIES].data))
  return values


def _scaling(path: Path, values: Values, divisors: np.ndarray) -> dict[str, object]:
  """The `rope_scaling` whose effect on the frequencies the file has."""
  plain = llama.LlamaConfig(rope_theta=values['rope_theta'], head_width=values['head_dim'])
  for factor in FACTORS:
    scaled = llama.frequencies(dataclasses.replace(plain, rope_factor=factor))
    if np.allclose(llama.frequencies(plain) / scaled, divisors, rtol=1e-4):
      return {
        'rope_type': 'llama3',
        'factor': factor,
        'low_freq_factor': plain.rope_low,
        'high_freq_factor': plain.rope_high,
        'original_max_position_embeddings': plain.rope_original,
      }
  raise ValueError(
    f'{path}: {FREQUENCIES} is not of Llama 3.1 or 3.2. Give the Hugging Face folder instead.'
  )


def _shortest(x: float) -> float:
  """A float32 as it was written: 1e-05 for 9.999999747378752e-06."""
  return float(str(np.float32(x)))
