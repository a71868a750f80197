"""What Hugging Face calls the parameters of a model, and how it lays them out.

PEFT's and loralib's files have the same names, so these tables are all that there is of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lora_jax.models import presets

PREFIXES = {
  'bert': 'bert.',
  'roberta': 'roberta.',
  'deberta-v2': 'deberta.',
  'gpt2': 'transformer.',
}
# Beside the body that has the prefix; a tensor's name begins with one of these.
OUTSIDE = {
  'bert': ('classifier.',),
  'roberta': ('classifier.',),
  'deberta-v2': ('classifier.', 'pooler.'),
  'gpt2': (),
}
NORMS = {'gamma': 'weight', 'beta': 'bias'}  # As checkpoints of BERT's first years name them.
# Tensors that a checkpoint may hold and no task here needs: buffers, and heads of other tasks.
UNUSED = {
  'bert': r'embeddings\.(position|token_type)_ids|pooler\.dense\..*|cls\..*',
  'roberta': r'embeddings\.(position|token_type)_ids|pooler\.dense\..*|lm_head\..*',
  'deberta-v2': r'embeddings\.position_(ids|embeddings\.weight)|(cls|(lm|mask)_predictions)\..*',
  'gpt2': r'h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight',
}
ENCODER = {  # Module paths here -> there; in layers, the part behind the layer's number.
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
TABLES = {'bert': ENCODER, 'roberta': ENCODER, 'deberta-v2': DEBERTA, 'gpt2': GPT2}
FUSED = 'attn.c_attn'
THIRDS = ('attention/query', 'attention/key', 'attention/value')  # Of a c_attn, in its order.
LAYER = re.compile(r'(encoder|decoder)/layers_(\d+)/')
OUTPUT = {  # The tensor whose rows are a head's outputs.
  'bert': 'classifier.weight',
  'roberta': 'classifier.out_proj.weight',
  'deberta-v2': 'classifier.weight',
}


class Source(NamedTuple):
  """Where a leaf comes from: a tensor, by its name without the family's prefix, and what of it.

  Attributes:
    name, shape: of the tensor.
    transposed: whether its axes are in reverse order there.
    third: which third of its last axis the leaf is, None for the whole of it.
  """

  name: str
  shape: tuple[int, ...]
  transposed: bool = False
  third: int | None = None

  def take(self, tensor: np.ndarray) -> np.ndarray:
    """The leaf, a view of the tensor."""
    if self.third is not None:
      width = tensor.shape[-1] // 3
      return tensor[..., self.third * width : (self.third + 1) * width]
    return np.transpose(tensor) if self.transposed else tensor


def module(config: presets.Config, path: str) -> str:
  """What the module at a path is called there, without the family's prefix."""
  prefix = ''
  if layer := LAYER.match(path):
    path = path[layer.end() :]
    prefix = f'{"h" if config.family == "gpt2" else "encoder.layer"}.{layer[2]}.'
  return prefix + TABLES[config.family][path]


def third(config: presets.Config, path: str) -> int | None:
  """Which third of a c_attn the module at a path is, None for any other module."""
  inside = LAYER.sub('', path)
  fused = config.family == 'gpt2' and TABLES['gpt2'].get(inside) == FUSED
  return THIRDS.index(inside) if fused else None


def source(config: presets.Config, path: str, shape: tuple[int, ...]) -> Source:
  """Where the leaf of a looped tree comes from; `shape` is the leaf's."""
  parent, leaf = path.rsplit('/', 1)
  name = f'{module(config, parent)}.{"bias" if leaf == "bias" else "weight"}'
  if (part := third(config, parent)) is not None:
    return Source(name, (*shape[:-1], 3 * shape[-1]), third=part)
  # GPT-2's Conv1D is [in, out] as ours are; a convolution is [out, in, width].
  if leaf == 'kernel' and config.family != 'gpt2':
    return Source(name, shape[::-1], transposed=True)
  return Source(name, shape)


def give(config: presets.Config, leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The tensors that leaves of a looped tree are, by their whole names; the inverse of `source`.

  Raises:
    ValueError: for a part of a fused projection without the others.
  """
  tensors: dict[str, np.ndarray] = {}
  thirds: dict[str, dict[int, np.ndarray]] = {}
  for path, leaf in leaves.items():
    found = source(config, path, leaf.shape)
    name = full(found.name, config.family)
    if found.third is None:
      tensors[name] = np.transpose(leaf) if found.transposed else leaf
    else:
      thirds.setdefault(name, {})[found.third] = leaf
  for name, parts in thirds.items():
    if lacking := [THIRDS[i] for i in range(3) if i not in parts]:
      raise ValueError(
        f'{name} is query, key and value in one; not given: {", ".join(lacking)}. Train all three, '
        'or export a merged model.'
      )
    tensors[name] = np.concatenate([parts[i] for i in range(3)], axis=-1)
  return {name: np.ascontiguousarray(x) for name, x in tensors.items()}


def unstacked(path: str, num_layers: int) -> list[tuple[str, int | None]]:
  """The looped paths behind a path, each with its index in the stack, or None for no stack."""
  if '/layers/' not in path:
    return [(path, None)]
  return [(path.replace('/layers/', f'/layers_{i}/'), i) for i in range(num_layers)]


def plain(name: str, family: str) -> str:
  """A tensor's name without the family's prefix, the norms' old names replaced by today's."""
  name = name.removeprefix(PREFIXES[family])
  return re.sub(r'LayerNorm\.(gamma|beta)$', lambda m: f'LayerNorm.{NORMS[m[1]]}', name)


def full(name: str, family: str) -> str:
  """The whole name of a plain one, of a tensor or of a module."""
  outside = f'{name}.'.startswith(OUTSIDE[family]) if OUTSIDE[family] else False
  return name if outside else PREFIXES[family] + name
