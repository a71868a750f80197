"""Equal to transformers at toy size: logits, losses and gradients (golden/make_models.py)."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.pretrained import load_model

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'models'
LAYOUTS = {
  'loop': {},
  'scan': dict(scan=True),
  'remat': dict(remat='full'),
  'scan+remat': dict(scan=True, remat='dots'),
}
CASES = {
  'bert': 'classification',
  'bert-regression': 'regression',
  'roberta': 'classification',
  'roberta-regression': 'regression',
}
ENCODER_GRADIENTS = {  # Path here -> name there. Kernels are transposed.
  'embeddings/word/embedding': 'embeddings.word_embeddings.weight',
  'embeddings/position/embedding': 'embeddings.position_embeddings.weight',
  'embeddings/norm/scale': 'embeddings.LayerNorm.weight',
  'encoder/layers_0/attention/query/kernel': 'encoder.layer.0.attention.self.query.weight',
  'encoder/layers_1/attention/value/bias': 'encoder.layer.1.attention.self.value.bias',
  'encoder/layers_1/mlp/up/kernel': 'encoder.layer.1.intermediate.dense.weight',
  'encoder/layers_1/mlp_norm/bias': 'encoder.layer.1.output.LayerNorm.bias',
}
GPT2_GRADIENTS = {
  'embeddings/word/embedding': 'wte.weight',
  'embeddings/position/embedding': 'wpe.weight',
  'decoder/layers_1/attention/output/kernel': 'h.1.attn.c_proj.weight',
  'decoder/layers_0/mlp/up/kernel': 'h.0.mlp.c_fc.weight',
  'decoder/layers_1/mlp_norm/scale': 'h.1.ln_2.weight',
  'final_norm/bias': 'ln_f.bias',
}


LLAMA_GRADIENTS = {
  'embeddings/word/embedding': 'model.embed_tokens.weight',
  'decoder/layers_0/attention/query/kernel': 'model.layers.0.self_attn.q_proj.weight',
  'decoder/layers_1/attention/key/kernel': 'model.layers.1.self_attn.k_proj.weight',
  'decoder/layers_0/attention/value/kernel': 'model.layers.0.self_attn.v_proj.weight',
  'decoder/layers_1/attention/output/kernel': 'model.layers.1.self_attn.o_proj.weight',
  'decoder/layers_0/mlp/gate/kernel': 'model.layers.0.mlp.gate_proj.weight',
  'decoder/layers_1/mlp/up/kernel': 'model.layers.1.mlp.up_proj.weight',
  'decoder/layers_1/mlp/down/kernel': 'model.layers.1.mlp.down_proj.weight',
  'decoder/layers_1/mlp_norm/scale': 'model.layers.1.post_attention_layernorm.weight',
  'final_norm/scale': 'model.norm.weight',
}
MORE_GRADIENTS = {
  'llama-untied': {'lm_head/kernel': 'lm_head.weight'},
  'llama-biased': {
    'decoder/layers_1/attention/key/bias': 'model.layers.1.self_attn.k_proj.bias',
    'decoder/layers_1/attention/output/bias': 'model.layers.1.self_attn.o_proj.bias',
  },
  'qwen2': {'decoder/layers_0/attention/query/bias': 'model.layers.0.self_attn.q_proj.bias'},
  'qwen3': {
    'decoder/layers_1/attention/query_norm/scale': 'model.layers.1.self_attn.q_norm.weight'
  },
}


def leaf(grads, path):
  """The leaf at a looped path, also of stacked layers."""
  leaves = tree.flatten(grads)
  if path in leaves:
    return leaves[path]
  stack, layer, rest = re.fullmatch(r'(\w+)/layers_(\d+)/(.*)', path).groups()
  return leaves[f'{stack}/layers/{rest}'][int(layer)]


def close(found, expected):
  np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures('strict_dtypes')
@pytest.mark.parametrize(
  'case, layout',
  [('bert', 'scan'), ('roberta', 'remat')]
  + [(case, layout) for case in CASES for layout in ('loop', 'scan+remat')],
)
def test_encoder(case, layout):
  expected = np.load(GOLDEN / case / 'expected.npz')
  model, params = load_model(GOLDEN / case, task=CASES[case], **LAYOUTS[layout])
  labels = expected['labels']

  def loss_fn(params):
    logits = model.apply(
      {'params': params},
      expected['input_ids'],
      segment_ids=expected['mask'],
      token_type_ids=expected['token_type_ids'],
    )
    if CASES[case] == 'regression':
      return jnp.mean(jnp.square(logits[:, 0] - labels.astype(np.float32))), logits
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
    return -jnp.mean(chosen), logits

  (loss, logits), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
  close(logits, expected['logits'])
  close(loss, expected['loss'])
  family = case.split('-')[0]
  for path, name in ENCODER_GRADIENTS.items():
    found = leaf(grads, path)
    close(found.T if path.endswith('kernel') else found, expected[f'grad:{family}.{name}'])
  last = ('classifier/kernel', 'classifier.weight')
  if family == 'roberta':
    last = ('classifier/output/kernel', 'classifier.out_proj.weight')
  close(leaf(grads, last[0]).T, expected[f'grad:{last[1]}'])


def language_model(case, layout):
  """Checks logits and loss; returns the gradients, and the golden."""
  expected = np.load(GOLDEN / case / 'expected.npz')
  model, params = load_model(GOLDEN / case, task='lm', **LAYOUTS[layout])
  ids, mask, target = (expected[name] for name in ('input_ids', 'mask', 'target'))

  def loss_fn(params):
    logits = model.apply({'params': params}, ids, segment_ids=mask)
    next_ids = ids[:, 1:, None]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), next_ids, axis=-1)[..., 0]
    return -jnp.sum(jnp.where(target[:, 1:], chosen, 0)) / np.float32(target.sum()), logits

  (loss, logits), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
  close(logits[mask == 1], expected['logits'][mask == 1])
  close(loss, expected['loss'])
  return grads, expected


@pytest.mark.usefixtures('strict_dtypes')
@pytest.mark.parametrize(
  'case, layout',
  [('llama', 'scan'), ('qwen3', 'remat'), ('qwen2', 'scan+remat')]
  + [('llama-biased', 'scan')]
  + [(case, 'loop') for case in ('llama', 'llama-untied', 'mistral', 'qwen2', 'qwen3')],
)
def test_llama(case, layout):
  """GQA everywhere; Llama 3's positions, an untied output, biases, norms (Qwen3)."""
  grads, expected = language_model(case, layout)
  names = LLAMA_GRADIENTS | MORE_GRADIENTS.get(case, {})
  assert sum(name.startswith('grad:') for name in expected) == len(names)
  for path, name in names.items():
    found = leaf(grads, path)
    close(found.T if path.endswith('kernel') else found, expected[f'grad:{name}'])


@pytest.mark.usefixtures('strict_dtypes')
def test_llama_classifier():
  case = GOLDEN / 'llama-classifier'
  expected = np.load(case / 'expected.npz')
  model, params = load_model(case, task='classification')
  last = expected['mask'].sum(axis=1, keepdims=True).astype(np.int32) - 1

  def loss_fn(params):
    ids, mask = expected['input_ids'], expected['mask']
    logits = model.apply({'params': params}, ids, mask, prediction_positions=last)[:, 0]
    labels = expected['labels'][:, None]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels, axis=-1)), logits

  (loss, logits), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
  close(logits, expected['logits'])
  close(loss, expected['loss'])
  close(leaf(grads, 'score/kernel').T, expected['grad:score.weight'])
  found = leaf(grads, 'decoder/layers_1/mlp/down/kernel')
  close(found.T, expected['grad:model.layers.1.mlp.down_proj.weight'])
  # The body of a language model's file serves as well, with a head of its own.
  _, params = load_model(GOLDEN / 'llama-untied', task='classification', num_labels=4)
  assert params['score']['kernel'].shape == (24, 4) and 'lm_head' not in params


@pytest.mark.usefixtures('strict_dtypes')
@pytest.mark.parametrize('layout', LAYOUTS)
def test_gpt2(layout):
  grads, expected = language_model('gpt2', layout)
  for path, name in GPT2_GRADIENTS.items():
    close(leaf(grads, path), expected[f'grad:transformer.{name}'])
  for path, name in (
    ('decoder/layers_0/attention/{}/kernel', 'h.0.attn.c_attn.weight'),
    ('decoder/layers_1/attention/{}/bias', 'h.1.attn.c_attn.bias'),
  ):
    thirds = [leaf(grads, path.format(name)) for name in ('query', 'key', 'value')]
    close(jnp.concatenate(thirds, axis=-1), expected[f'grad:transformer.{name}'])
