"""Laws of both model families: packing, prediction positions, layouts, dropout, sizes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.models import GPT2, Encoder
from lora_jax.models.presets import architecture, build
from lora_jax.pretrained import fresh_model

SMALL = dict(
  vocab_size=40, max_positions=12, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32
)
TASKS = {'bert': 'classification', 'roberta': 'classification', 'gpt2': 'lm', 'qwen3': 'lm'}
MORE = {'qwen3': dict(num_kv_heads=1)}


@functools.cache
def small(family, scan=False):
  """A model without dropout, its weights larger than at initialization so that every term shows."""
  config = architecture(family, **SMALL, **MORE.get(family, {}))
  model = build(config, task=TASKS[family], scan=scan, num_labels=3, **no_dropout(family))
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))['params']
  rng = np.random.default_rng(0)
  return model, jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)


def no_dropout(family):
  names = ['hidden_dropout', 'attention_dropout']
  return dict.fromkeys(names if TASKS[family] == 'lm' else [*names, 'classifier_dropout'], 0.0)


def run(model, params, *args, seed=None, **kwargs):
  """The model's output; with dropout if there is a seed."""
  return apply(model, params, None if seed is None else jax.random.key(seed), args, kwargs)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, key, args, kwargs):
  rngs = {} if key is None else {'dropout': key}
  return model.apply({'params': params}, *args, **kwargs, deterministic=key is None, rngs=rngs)


def ids(*shape, seed=0):
  return np.random.default_rng(seed).integers(3, 40, shape).astype(np.int32)


LENGTHS = (5, 3, 12, 1)
ROWS = ((0, 1), (2, 3))  # Which examples lie in which row.


def lay(rows, length):
  """A batch with examples laid into rows, padding at the end; and the columns to predict at."""
  names = ('input_ids', 'segment_ids', 'position_ids', 'token_type_ids')
  batch = {name: np.zeros((len(rows), length), np.int32) for name in names}
  starts = []
  for row, members in enumerate(rows):
    ends = np.cumsum([LENGTHS[i] for i in members])
    starts.append([end - LENGTHS[i] for i, end in zip(members, ends)])
    for segment, (i, start) in enumerate(zip(members, starts[-1]), start=1):
      where = (row, slice(start, start + LENGTHS[i]))
      batch['input_ids'][where] = ids(LENGTHS[i], seed=i)
      batch['segment_ids'][where] = segment
      batch['position_ids'][where] = np.arange(LENGTHS[i])
      batch['token_type_ids'][where] = np.arange(LENGTHS[i]) % 2
  return batch, np.array(starts)


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('family', TASKS)
def test_packed_equals_alone(family, scan):
  model, params = small(family, scan=scan)
  packed, starts = lay(ROWS, 14)
  alone, first = lay([[i] for i in range(4)], 13)
  if family != 'bert':
    del packed['token_type_ids'], alone['token_type_ids']
  del packed['position_ids']  # They restart with each segment by themselves.
  found = run(model, params, **packed, prediction_positions=starts)
  expected = run(model, params, **alone, prediction_positions=first)
  np.testing.assert_allclose(found.reshape(4, -1), expected[:, 0], atol=1e-5)
  # Without segments, positions and padding at all: the third example, of full length.
  whole = {key: alone[key][2:3, :12] for key in alone if key in ('input_ids', 'token_type_ids')}
  whole = run(model, params, **whole)
  if TASKS[family] == 'lm':
    every = run(model, params, **packed)[1, :12]
    np.testing.assert_allclose(every, whole[0], atol=1e-5)
  else:
    np.testing.assert_allclose(found[1, 0], whole[0], atol=1e-5)


@pytest.mark.parametrize('scan', [False, True])
def test_prediction_positions_gather_columns(scan):
  model, params = small('gpt2', scan=scan)
  tokens, prediction_positions = ids(2, 9), np.array([[8, 0, 3, 3], [1, 2, 5, 0]])
  every = run(model, params, tokens)
  found = run(model, params, tokens, prediction_positions=prediction_positions)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(
    found, np.take_along_axis(every, prediction_positions[..., None], 1), atol=1e-5
  )


def test_only_read_columns_pay_for_the_vocabulary():
  model = GPT2(architecture('gpt2', **{**SMALL, 'vocab_size': 4000}))
  params = jax.eval_shape(model.init, jax.random.key(0), ids(1, 1))['params']

  def flops(**kwargs):
    call = jax.jit(lambda params: model.apply({'params': params}, ids(8, 12), **kwargs))
    return call.lower(params).compile().cost_analysis()['flops']

  vocabulary = 2 * 8 * 12 * 16 * 4000
  assert flops() > vocabulary
  assert flops(prediction_positions=np.zeros((8, 1), int)) < 0.5 * vocabulary


@pytest.mark.parametrize(
  'family, name',
  [
    ('bert', 'hidden_dropout'),
    ('bert', 'attention_dropout'),
    ('bert', 'classifier_dropout'),
    ('roberta', 'classifier_dropout'),
    ('gpt2', 'hidden_dropout'),
    ('gpt2', 'attention_dropout'),
  ],
)
def test_each_dropout_rate_acts_and_depends_on_the_key(family, name):
  model, params = small(family)
  quiet = run(model, params, ids(2, 7))
  model = model.clone(**{name: 0.5})
  first, again, other = (run(model, params, ids(2, 7), seed=seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert jnp.abs(first - quiet).max() > 1e-3
  assert jnp.abs(first - other).max() > 1e-3
  np.testing.assert_allclose(run(model, params, ids(2, 7)), quiet, atol=1e-5)


def test_rates_of_zero_need_no_key():
  model, params = small('bert')
  found = jax.jit(functools.partial(model.apply, deterministic=False))(
    {'params': params}, ids(2, 7)
  )
  np.testing.assert_allclose(found, run(model, params, ids(2, 7)), atol=1e-5)


def test_rates_come_from_the_config_unless_given():
  config = architecture('bert', **SMALL, hidden_dropout=0.2, attention_dropout=0.3)
  options = Encoder(config).options
  assert (options.embedding_dropout, options.hidden_dropout) == (0.2, 0.2)
  assert options.attention_dropout == 0.3
  options = Encoder(config, hidden_dropout=0.0, attention_dropout=0.1).options
  assert (options.embedding_dropout, options.attention_dropout) == (0.0, 0.1)
  config = architecture('gpt2', **SMALL, embedding_dropout=0.2, hidden_dropout=0.3)
  options = GPT2(config).options
  assert (options.embedding_dropout, options.hidden_dropout) == (0.2, 0.3)
  assert GPT2(config, hidden_dropout=0.0).options.embedding_dropout == 0.0


def test_classifier_dropout_falls_back_on_the_config_and_then_on_the_hidden_rate():
  model, params = small('bert')
  quiet = run(model, params, ids(2, 7))
  model = model.clone(classifier_dropout=None)
  np.testing.assert_allclose(run(model, params, ids(2, 7), seed=0), quiet, atol=1e-5)
  model = model.clone(config=dataclasses.replace(model.config, classifier_dropout=0.5))
  assert jnp.abs(run(model, params, ids(2, 7), seed=0) - quiet).max() > 1e-3


@pytest.mark.parametrize('family, scan', [('bert', True), ('gpt2', False)])
def test_bfloat16_is_near_float32(family, scan):
  # As initialized: with weights this small, what is left is rounding.
  model, params = fresh_model({'family': family, **SMALL}, task=TASKS[family], scan=scan)
  low = model.clone(dtype='bfloat16')

  def loss(model):
    def loss_fn(params):
      logits = model.apply({'params': params}, ids(2, 7))
      assert logits.dtype == jnp.float32
      return jnp.mean(jnp.square(logits - 1)), logits

    return jax.jit(jax.grad(loss_fn, has_aux=True))

  (low_grads, low_logits), (grads, logits) = loss(low)(params), loss(model)(params)
  np.testing.assert_allclose(low_logits, logits, atol=2e-2)
  assert jnp.abs(low_logits - logits).max() > 0
  for path, leaf in tree.flatten(grads).items():
    found = tree.flatten(low_grads)[path]
    if float(jnp.linalg.norm(leaf)) > 1e-4:  # A key's bias has no gradient but rounding.
      error = jnp.linalg.norm(found - leaf) / jnp.linalg.norm(leaf)
      assert error < 0.1, (path, float(error))


def test_norms_and_head_stay_float32():
  model = Encoder(architecture('roberta', **SMALL), param_dtype='bfloat16')
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))['params']
  for path, leaf in tree.flatten(shapes).items():
    float32 = 'norm' in path or path.startswith('classifier')
    assert leaf.dtype == (jnp.float32 if float32 else jnp.bfloat16), path


@pytest.mark.parametrize('family', ['roberta', 'gpt2'])
def test_initialization_is_hugging_faces(family):
  _, params = fresh_model(
    {'family': family, **SMALL, 'hidden_size': 64, 'vocab_size': 500}, task=TASKS[family]
  )
  for path, leaf in tree.flatten(params).items():
    if path.endswith('bias'):
      assert (leaf == 0).all(), path
    elif path.endswith('scale'):
      assert (leaf == 1).all(), path
    else:
      # GPT-2 scales what it adds to the residual stream by 1/sqrt(2 layers).
      added = family == 'gpt2' and path.endswith(('attention/output/kernel', 'down/kernel'))
      assert abs(float(leaf.std()) / (0.01 if added else 0.02) - 1) < 0.15, path


def test_rows_longer_than_the_positions():
  model, params = small('gpt2')
  with pytest.raises(ValueError, match=r'rows of 13 tokens, but the model has 12 positions'):
    run(model, params, ids(1, 13))
  # Padding is not a sequence: a longer row is fine, and leaves the example alone.
  segments = np.array([[1] * 4 + [0] * 16])
  long = run(model, params, ids(1, 20), segments)
  np.testing.assert_allclose(long[:, :4], run(model, params, ids(1, 20)[:, :4]), atol=1e-5)
  # Beyond what can be seen in a trace, NaN says it, not a wrong number.
  beyond = run(model, params, ids(1, 3), position_ids=np.array([[0, 1, 12]]))
  assert jnp.isnan(beyond[0, 2]).all()
