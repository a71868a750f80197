"""Hugging Face's names of a model's parameters, and the layout of its tensors.

PEFT's and loralib's files use the same names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lora_jax import stacking
from lora_jax.models import presets
from lora_jax.models.presets import LLAMAS

PREFIXES = {
  'bert': 'bert.',
  'roberta': 'roberta.',
  'deberta-v2': 'deberta.',
  'gpt2': 'transformer.',
  **dict.fromkeys(LLAMAS, 'model.'),
}
# Names without the prefix: a tensor outside of the body begins with one of these.
OUTSIDE = {
  'bert': ('classifier.',),
  'roberta': ('classifier.',),
  'deberta-v2': ('classifier.', 'pooler.'),
  'gpt2': (),
  **dict.fromkeys(LLAMAS, ('lm_head.', 'score.')),
}
NORMS = {'gamma': 'weight', 'beta': 'bias'}  # Names in the first BERT checkpoints -> today's.
# Tensors that a checkpoint may hold and no model reads: buffers, and heads of other tasks.
UNUSED = {
  'bert': r'embeddings\.(position|token_type)_ids|pooler\.dense\..*|cls\..*',
  'roberta': r'embeddings\.(position|token_type)_ids|pooler\.dense\..*|lm_head\..*',
  'deberta-v2': r'embeddings\.position_(ids|embeddings\.weight)|(cls|(lm|mask)_predictions)\..*',
  'gpt2': r'h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight',
  # A buffer of transformers before 4.32.
  **dict.fromkeys(LLAMAS, r'layers\.\d+\.self_attn\.rotary_emb\.inv_freq|(lm_head|score)\.weight'),
}
# Module paths of this package -> Hugging Face's names; in a layer, both within that layer.
ENCODER = {
  'embeddings/word': 'embeddings.word_embeddings',
  'embeddings/position': 'embeddings.position_embeddings',
  'embeddings/token_type': 'embeddings.token_type_embeddings',
  'embeddings/norm': 'embeddings.LayerNorm',
  'attention/query': 'attention.self.query',
  'attention/key': 'attention.self.key',
  'attention/value': 'attention.self.value',
  'attention/output': 'attention.output.dense',
  'attention_norm': 'attention.output.LayerNorm',
  'mlp/up': 'intermediate.dense',
  'mlp/down': 'output.dense',
  'mlp_norm': 'output.LayerNorm',
  'pooler': 'pooler.dense',
  'classifier': 'classifier',
  'classifier/dense': 'classifier.dense',
  'classifier/output': 'classifier.out_proj',
}
DEBERTA = {
  **ENCODER,
  'relative': 'encoder.rel_embeddings',
  'relative_norm': 'encoder.LayerNorm',
  'convolution': 'encoder.conv.conv',
  'convolution/norm': 'encoder.conv.LayerNorm',
  'attention/query': 'attention.self.query_proj',
  'attention/key': 'attention.self.key_proj',
  'attention/value': 'attention.self.value_proj',
}
GPT2 = {
  'embeddings/word': 'wte',
  'embeddings/position': 'wpe',
  'attention_norm': 'ln_1',
  'attention/query': 'attn.c_attn',
  'attention/key': 'attn.c_attn',
  'attention/value': 'attn.c_attn',
  'attention/output': 'attn.c_proj',
  'mlp_norm': 'ln_2',
  'mlp/up': 'mlp.c_fc',
  'mlp/down': 'mlp.c_proj',
  'final_norm': 'ln_f',
}
LLAMA = {
  'embeddings/word': 'embed_tokens',
  'attention_norm': 'input_layernorm',
  'attention/query': 'self_attn.q_proj',
  'attention/key': 'self_attn.k_proj',
  'attention/value': 'self_attn.v_proj',
  'attention/output': 'self_attn.o_proj',
  'attention/query_norm': 'self_attn.q_norm',
  'attention/key_norm': 'self_attn.k_norm',
  'mlp_norm': 'post_attention_layernorm',
  'mlp/gate': 'mlp.gate_proj',
  'mlp/up': 'mlp.up_proj',
  'mlp/down': 'mlp.down_proj',
  'final_norm': 'norm',
  'lm_head': 'lm_head',
  'score': 'score',
}
TABLES = {
  'bert': ENCODER,
  'roberta': ENCODER,
  'deberta-v2': DEBERTA,
  'gpt2': GPT2,
  **dict.fromkeys(LLAMAS, LLAMA),
}
LAYERS = {'gpt2': 'h', **dict.fromkeys(LLAMAS, 'layers')}  # Others: encoder.layer.
FUSED = 'attn.c_attn'
THIRDS = ('attention/query', 'attention/key', 'attention/value')  # Of a c_attn, in its order.
OUTPUT = {  # The tensor whose rows are a head's outputs.
  'bert': 'classifier.weight',
  'roberta': 'classifier.out_proj.weight',
  'deberta-v2': 'classifier.weight',
  **dict.fromkeys(LLAMAS, 'score.weight'),
}


class Source(NamedTuple):
  """The tensor that a leaf comes from, and the part of it that is the leaf.

  Attributes:
    name: the tensor's name without the family's prefix.
    shape: the tensor's shape.
    transposed: whether the tensor has the leaf's axes in reverse order.
    third: the third of the tensor's last axis that is the leaf (0, 1, 2); None for all of it.
  """

  name: str
  shape: tuple[int, ...]
  transposed: bool = False
  third: int | None = None

  def extract(self, tensor: np.ndarray) -> np.ndarray:
    """The leaf, a view of the tensor."""
    if self.third is not None:
      width = tensor.shape[-1] // 3
      return tensor[..., self.third * width : (self.third + 1) * width]
    return np.transpose(tensor) if self.transposed else tensor


def module_name(config: presets.Config, path: str) -> str:
  """Hugging Face's name of the module at a path, without the family's prefix."""
  name = TABLES[config.family][stacking.path_in_layer(path)]
  layer = stacking.layer_index(path)
  if layer is None:
    return name
  return f'{LAYERS.get(config.family, "encoder.layer")}.{layer}.{name}'


def third(config: presets.Config, path: str) -> int | None:
  """The third of a `c_attn` that the module at a path is; None for any other module."""
  inside = stacking.path_in_layer(path)
  fused = config.family == 'gpt2' and TABLES['gpt2'].get(inside) == FUSED
  return THIRDS.index(inside) if fused else None


def source(config: presets.Config, path: str, shape: tuple[int, ...]) -> Source:
  """The source of a leaf of a looped tree; `shape` is the leaf's."""
  parent, leaf = path.rsplit('/', 1)
  name = f'{module_name(config, parent)}.{"bias" if leaf == "bias" else "weight"}'
  if (part := third(config, parent)) is not None:
    return Source(name, (*shape[:-1], 3 * shape[-1]), third=part)
  # GPT-2's Conv1D is [in, out] as ours are; a convolution is [out, in, width].
  if leaf == 'kernel' and config.family != 'gpt2':
    return Source(name, shape[::-1], transposed=True)
  return Source(name, shape)


def to_tensors(config: presets.Config, leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Hugging Face's tensors, by full name, of a looped tree's leaves; the inverse of `source`.

  Raises:
    ValueError: for a part of a fused projection without the others.
  """
  tensors: dict[str, np.ndarray] = {}
  thirds: dict[str, dict[int, np.ndarray]] = {}
  for path, leaf in leaves.items():
    found = source(config, path, leaf.shape)
    name = full_name(found.name, config.family)
    if found.third is None:
      tensors[name] = np.transpose(leaf) if found.transposed else leaf
    else:
      thirds.setdefault(name, {})[found.third] = leaf
  for name, parts in thirds.items():
    if lacking := [THIRDS[i] for i in range(3) if i not in parts]:
      raise ValueError(
        f'{name} holds query, key and value in one tensor; not given: {", ".join(lacking)}. Train '
        'all three, or export a merged model.'
      )
    tensors[name] = np.concatenate([parts[i] for i in range(3)], axis=-1)
  return {name: np.ascontiguousarray(x) for name, x in tensors.items()}


def plain_name(name: str, family: str) -> str:
  """A tensor's name without the family's prefix, the norms' old names replaced by today's."""
  name = name.removeprefix(PREFIXES[family])
  return re.sub(r'LayerNorm\.(gamma|beta)$', lambda m: f'LayerNorm.{NORMS[m[1]]}', name)


def full_name(name: str, family: str) -> str:
  """The full name of a tensor or module, of its plain name."""
  outside = f'{name}.'.startswith(OUTSIDE[family]) if OUTSIDE[family] else False
  return name if outside else PREFIXES[family] + name
