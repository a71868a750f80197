"""DeBERTa-v2: equal to transformers (golden/make_models.py), and the laws that are its own."""

import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import bind, lora, tree
from lora_jax.models import PRESETS
from lora_jax.models.deberta import relative_rows
from lora_jax.models.presets import architecture, build
from lora_jax.pretrained import conversion, fresh_model, load_model, safetensors
from lora_jax.pretrained.architecture import from_hugging_face

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'models'
CASES = {'deberta-v2': 'classification', 'deberta-v2-regression': 'regression'}
LAYOUTS = {
  'loop': {},
  'scan': dict(scan=True),
  'remat': dict(remat='dots'),
  'scan+remat': dict(scan=True, remat='full'),
}
GRADIENTS = {  # Path here -> name there. Kernels are transposed.
  'embeddings/word/embedding': 'deberta.embeddings.word_embeddings.weight',
  'embeddings/norm/scale': 'deberta.embeddings.LayerNorm.weight',
  'relative/embedding': 'deberta.encoder.rel_embeddings.weight',
  'relative_norm/scale': 'deberta.encoder.LayerNorm.weight',
  'convolution/kernel': 'deberta.encoder.conv.conv.weight',
  'convolution/norm/scale': 'deberta.encoder.conv.LayerNorm.weight',
  'encoder/layers_0/attention/query/kernel': (
    'deberta.encoder.layer.0.attention.self.query_proj.weight'
  ),
  'encoder/layers_1/attention/key/kernel': (
    'deberta.encoder.layer.1.attention.self.key_proj.weight'
  ),
  'encoder/layers_1/attention/value/bias': (
    'deberta.encoder.layer.1.attention.self.value_proj.bias'
  ),
  'encoder/layers_1/mlp_norm/bias': 'deberta.encoder.layer.1.output.LayerNorm.bias',
  'pooler/kernel': 'pooler.dense.weight',
  'classifier/kernel': 'classifier.weight',
}


def close(found, expected, message=''):
  np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0, err_msg=message)


@pytest.mark.usefixtures('strict_dtypes')
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('case', CASES)
def test_equals_transformers(case, layout):
  expected = np.load(GOLDEN / case / 'expected.npz')
  model, params = load_model(GOLDEN / case, task=CASES[case], **LAYOUTS[layout])
  labels = expected['labels']

  def loss_fn(params):
    logits = model.apply({'params': params}, expected['input_ids'], segment_ids=expected['mask'])
    if CASES[case] == 'regression':
      return jnp.mean(jnp.square(logits[:, 0] - labels.astype(np.float32))), logits
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
    return -jnp.mean(chosen), logits

  (loss, logits), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
  close(logits, expected['logits'].reshape(logits.shape))
  close(loss, expected['loss'])
  leaves = tree.flatten(grads)
  assert ('convolution/kernel' in leaves) == (case == 'deberta-v2')
  for path, name in GRADIENTS.items():
    if 'conv' in path and case != 'deberta-v2':
      continue
    layer = re.search(r'layers_(\d)/', path)
    found = leaves[path.replace(layer[0], 'layers/')][int(layer[1])] if layer and model.scan else (
      leaves[path]
    )  # fmt: skip
    close(found.T if path.endswith('kernel') else found, expected[f'grad:{name}'], path)


SMALL = dict(
  vocab_size=40, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32,
  position_buckets=6, max_positions=10, convolution=3,
)  # fmt: skip
QUIET = dict(hidden_dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0)


@functools.cache
def small(**options):
  fields = SMALL | {key: value for key, value in options.items() if key in SMALL}
  options = QUIET | {key: value for key, value in options.items() if key not in SMALL}
  model = build(architecture('deberta-v2', **fields), task='classification', **options)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))['params']
  rng = np.random.default_rng(0)
  return model, jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)


def run(model, params, *args, seed=None, **kwargs):
  rngs = {} if seed is None else {'dropout': jax.random.key(seed)}
  call = lambda params: model.apply(
    {'params': params}, *args, **kwargs, deterministic=seed is None, rngs=rngs
  )
  return jax.jit(call)(params)


def ids(*shape, seed=0):
  return np.random.default_rng(seed).integers(3, 40, shape).astype(np.int32)


@pytest.mark.parametrize('layers', [1, 2])
@pytest.mark.parametrize('scan', [False, True])
def test_packed_equals_alone(scan, layers):
  """Also the convolution: at a border it sees nothing of the neighbor, nor of padding."""
  model, params = small(scan=scan, num_layers=layers)
  lengths = (5, 14, 1, 2)
  examples = [ids(n, seed=i) for i, n in enumerate(lengths)]
  packed, segments = np.full((2, 23), 7, np.int32), np.zeros((2, 23), np.int32)
  packed[0, :20] = np.concatenate(examples[:3])
  segments[0, :20] = np.repeat([1, 2, 3], lengths[:3])
  packed[1, :2], segments[1, :2] = examples[3], 1
  found = run(
    model, params, packed, segments, prediction_positions=np.array([[0, 5, 19], [0, 0, 0]])
  )
  for i, (row, place) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0)]):
    close(found[row, place], run(model, params, examples[i][None])[0], f'example {i}')


def test_the_convolution_belongs_to_the_first_layer():
  """Stacked equals looped where each layer would give something else with it."""
  looped, params = small(num_layers=4)
  scanned, _ = small(num_layers=4, scan=True)
  stacked = {**params, 'encoder': {'layers': jax.tree.map(
    lambda *leaves: np.stack(leaves), *(params['encoder'][f'layers_{i}'] for i in range(4))
  )}}  # fmt: skip
  close(run(scanned, stacked, ids(2, 9)), run(looped, params, ids(2, 9)))


def test_rows_of_the_table():
  """Exact near zero, logarithmic beyond, symmetric, and the last for all the rest."""
  rows = dict(zip(range(-599, 601), relative_rows(600, 256, 512) - 256))
  assert all(rows[d] == d for d in range(-128, 129))
  assert rows[129] == 129 and rows[-129] == -129
  assert rows[511] == 255 and rows[600] == 255 and rows[-511] == -255
  assert all(rows[d] == -rows[-d] for d in range(400))
  steps = np.diff([rows[d] for d in range(600)])
  assert ((steps >= 0) & (steps <= 1)).all()
  for length in (1, 2, 7):
    np.testing.assert_array_equal(
      relative_rows(length, 256, 512) - 256, np.arange(1 - length, length + 1)
    )


def test_only_distances_are_seen():
  """The same segment elsewhere in a row gives the same; the order within it matters."""
  model, params = small()
  tokens = ids(1, 6)
  shifted = np.concatenate([ids(1, 4, seed=1), tokens], axis=1)
  segments = np.array([[1] * 4 + [2] * 6])
  alone = run(model, params, tokens)
  close(run(model, params, shifted, segments, prediction_positions=np.array([[4]]))[:, 0], alone)
  swapped = tokens[:, [0, 1, 2, 3, 5, 4]]
  assert jnp.abs(run(model, params, swapped) - alone).max() > 1e-3


@pytest.mark.parametrize('scan', [False, True])
def test_lora_reaches_the_relative_positions_too(scan):
  """They go through the adapted projections, so merged and unmerged are one function."""
  model, params = small(scan=scan)
  method = lora(rank=2, alpha=4, targets='.*/(query|key)')
  frozen, trained = method.init(jax.random.key(0), model, params, ids(1, 4))
  rng = np.random.default_rng(1)
  trained = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), trained)
  found = jax.jit(bind(model.apply, method))(frozen, trained, ids(2, 9))
  assert jnp.abs(found - run(model, params, ids(2, 9))).max() > 1e-3
  close(found, run(model, method.merge(frozen, trained), ids(2, 9)))


@pytest.mark.slow
@pytest.mark.parametrize('name', list(QUIET))
def test_each_dropout_rate_acts(name):
  model, params = small()
  quiet = run(model, params, ids(2, 7))
  close(run(model, params, ids(2, 7), seed=0), quiet)
  loud = model.clone(**{name: 0.5})
  first, again, other = (run(loud, params, ids(2, 7), seed=seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert jnp.abs(first - quiet).max() > 1e-3 and jnp.abs(first - other).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize('scan', [False, True])
def test_bfloat16_is_near_float32(scan):
  model, params = fresh_model({'family': 'deberta-v2', **SMALL}, task='classification', scan=scan)
  low = model.clone(dtype='bfloat16')

  def loss(model):
    loss_fn = lambda params: jnp.mean(jnp.square(model.apply({'params': params}, ids(2, 9)) - 1))
    return jax.jit(jax.value_and_grad(loss_fn))(params)

  (found, low_grads), (expected, grads) = loss(low), loss(model)
  assert 0 < abs(found - expected) < 2e-2
  for path, leaf in tree.flatten(grads).items():
    if float(jnp.linalg.norm(leaf)) > 1e-4:
      error = jnp.linalg.norm(tree.flatten(low_grads)[path] - leaf) / jnp.linalg.norm(leaf)
      assert error < 0.1, (path, float(error))


def test_pretraining_heads_are_passed_over():
  tensors = dict(safetensors.read(GOLDEN / 'deberta-v2'))
  model, full = load_model(GOLDEN / 'deberta-v2', task='classification')
  body = {name: x for name, x in tensors.items() if name.startswith('deberta.')}
  extra = ('lm_predictions.lm_head.bias', 'mask_predictions.dense.weight', 'cls.predictions.bias')
  for name in (*extra, 'deberta.embeddings.position_embeddings.weight'):
    body[name] = np.zeros(3, np.float32)
  params = conversion.convert(model, body)
  same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  same(*(tree.split(p, model.head)[0] for p in (params, full)))
  assert 0.01 < params['pooler']['kernel'].std() < 0.03
  with pytest.raises(ValueError, match=r'missing encoder.conv.conv.bias'):
    conversion.convert(model, {k: x for k, x in body.items() if 'conv.conv.bias' not in k})


@pytest.mark.parametrize('name', ['deberta-v2-xxlarge', 'deberta-v3-base'])
def test_the_published_config_gives_the_preset(name):
  """config.json as the repository has it, but for what has no part in the architecture."""
  config = PRESETS[name].config
  values = {
    'model_type': 'deberta-v2', 'vocab_size': 128100, 'hidden_size': config.hidden_size,
    'num_hidden_layers': config.num_layers, 'num_attention_heads': config.num_heads,
    'intermediate_size': config.intermediate_size, 'hidden_act': 'gelu', 'layer_norm_eps': 1e-7,
    'relative_attention': True, 'position_buckets': 256, 'norm_rel_ebd': 'layer_norm',
    'share_att_key': True, 'pos_att_type': 'p2c|c2p', 'max_relative_positions': -1,
    'position_biased_input': False, 'max_position_embeddings': 512, 'type_vocab_size': 0,
  }  # fmt: skip
  if config.convolution:
    values |= {'conv_kernel_size': 3, 'conv_act': 'gelu', 'attention_head_size': 64}
  assert from_hugging_face(values) == config


@pytest.mark.parametrize(
  'change, problem',
  [
    ({'share_att_key': False}, 'share_att_key=False; supported: True'),
    ({'position_biased_input': True}, 'position_biased_input=True; supported: False'),
    ({'pos_att_type': ['c2p']}, "pos_att_type=['c2p']; supported: ['c2p', 'p2c']"),
    ({'type_vocab_size': 2}, 'type_vocab_size=2; supported: 0'),
    ({'position_buckets': -1}, 'position_buckets=-1: expected an integer from 1'),
    ({'conv_act': 'tanh'}, "convolution_activation 'tanh'"),
    ({'norm_rel_ebd': None}, "needs the key 'norm_rel_ebd'"),
  ],
)
def test_what_is_not_computed_is_named(change, problem):
  values = json.loads((GOLDEN / 'deberta-v2' / 'config.json').read_text()) | change
  values = {key: value for key, value in values.items() if change.get(key, 0) is not None}
  with pytest.raises(ValueError, match=re.escape(problem)):
    from_hugging_face(values)
