"""cuDNN's attention against XLA's on an NVIDIA GPU: JAX_PLATFORMS=cuda python -m pytest FILE.

Inputs are bfloat16. Results and gradients are compared with those of XLA in float32 on the same
inputs: the largest difference, over the largest value, is at most 2 % (bfloat16 has steps of 0.4 %
to 0.8 %, and rounds the weights, the bias and the result).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import methods, ops
from lora_jax.models import attention as attention_lib
from lora_jax.models import fused_attention, presets
from lora_jax.train import losses
from tests.models import toys

pytestmark = pytest.mark.skipif(
  jax.default_backend() != 'gpu' or fused_attention.current().capability < (8, 0),
  reason='needs an NVIDIA GPU of compute capability 8.0: JAX_PLATFORMS=cuda python -m pytest',
)
TOLERANCE, MEMBERS, ROWS, HEADS = 0.02, 3, 4, 4
KERNEL = '__cudnn$fmha'


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape).astype(jnp.bfloat16)


def segments(length, *members):
  """Packed rows: a few segments of different lengths, then padding."""
  random = np.random.default_rng(length)
  ends = np.sort(random.integers(1, length, (*members, ROWS, 3)), axis=-1)
  ids = 1 + (np.arange(length) >= ends[..., None]).sum(-2)
  return jnp.asarray(np.where(ids == 4, 0, ids), jnp.int32)


def check(found, expected):
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    x, y = (np.asarray(z, np.float32) for z in (x, y))
    assert np.isfinite(x).all()
    assert np.abs(x - y).max() <= TOLERANCE * np.abs(y).max(), (x.shape, np.abs(x - y).max())


def compare(inputs, axes=None, *, implementation='auto', **options):
  """Value and gradients of both implementations; the kernel has to be in the program."""
  names = [name for name in ('query', 'key', 'value', 'bias') if name in inputs]

  def results(implementation, inputs):
    def weighted(parts, rest):
      y = attention_lib.attention(**parts, **rest, implementation=implementation, **options)
      w = jax.random.normal(jax.random.key(9), y.shape)
      return (y.astype(jnp.float32) * w).sum(), y

    def grads(inputs):
      parts = {name: inputs[name] for name in names}
      rest = {name: x for name, x in inputs.items() if name not in names}
      (_, y), grads = jax.value_and_grad(weighted, has_aux=True)(parts, rest)
      return y, grads

    mapped = jax.vmap(grads, in_axes=(axes,)) if axes else grads
    return jax.jit(mapped).lower(inputs).compile()

  exact = {name: x.astype(jnp.float32) if x.dtype in ops.LOW else x for name, x in inputs.items()}
  program = results(implementation, inputs)
  assert KERNEL in program.as_text()
  found, expected = program(inputs), results('xla', exact)(exact)
  check(found, expected)


def inputs(length=128, width=64, queries=None, *members, bias=False, packed=True):
  every = {
    'query': normal(0, *members, ROWS, queries or length, HEADS, width),
    'key': normal(1, *members, ROWS, length, HEADS, width),
    'value': normal(2, *members, ROWS, length, HEADS, width),
  }
  if bias:
    shape = (*members, ROWS, HEADS, queries or length, length)
    every['bias'] = jax.random.normal(jax.random.key(3), shape)
  if packed:
    every['segment_ids'] = segments(length, *members)
  return every


@pytest.mark.parametrize('causal', [False, True], ids=['both ways', 'causal'])
@pytest.mark.parametrize('packed', [False, True], ids=['whole rows', 'packed'])
@pytest.mark.parametrize('length, width', [(128, 64), (512, 128), (30, 16)])
def test_the_kernel_agrees(length, width, packed, causal):
  compare(inputs(length, width, packed=packed), causal=causal)


@pytest.mark.parametrize('packed', [False, True], ids=['whole rows', 'packed'])
def test_with_a_bias(packed):
  compare(inputs(bias=True, packed=packed), scale=0.1)


@pytest.mark.parametrize('causal', [False, True], ids=['both ways', 'causal'])
def test_at_chosen_columns(causal):
  columns = jnp.sort(jax.random.randint(jax.random.key(5), (ROWS, 64), 0, 128), axis=1)
  compare(inputs(queries=64) | {'columns': columns}, causal=causal)


@pytest.mark.parametrize(
  'mapped', [('query',), ('query', 'value'), ('query', 'key', 'value', 'segment_ids'),
             ('segment_ids',)], ids=' '.join
)  # fmt: skip
@pytest.mark.parametrize('causal', [False, True], ids=['both ways', 'causal'])
def test_for_members(mapped, causal):
  one, many = inputs(), inputs(128, 64, None, MEMBERS)
  given = {name: many[name] if name in mapped else x for name, x in one.items()}
  compare(given, {name: 0 if name in mapped else None for name in given}, causal=causal)


def test_for_members_with_a_bias():
  given = inputs(128, 64, None, MEMBERS, bias=True)
  compare(given, dict.fromkeys(given, 0))


def loss_and_gradient(family, attention, dtype, params, batch, scan):
  model = toys.model(family, attention=attention, dtype=dtype, scan=scan)
  frozen, trainable = toys.lora(model).init(jax.random.key(1), model, params, presets.TOKENS)
  apply = methods.bind(model.apply, toys.lora(model))

  def loss(trainable):
    logits = apply(frozen, trainable, **{k: x for k, x in batch.items() if k != 'labels'})
    return losses.per_position(toys.kind(family), logits, batch['labels']).mean()

  program = jax.jit(jax.value_and_grad(loss)).lower(trainable).compile()
  assert (KERNEL in program.as_text()) == (attention == 'auto')
  return program(trainable)


@pytest.mark.parametrize(
  'family, scan', [('roberta', False), ('deberta-v2', True), ('gpt2', False), ('llama', True)]
)
def test_a_model_agrees(family, scan):
  """Losses to 1 %; gradients in direction (cosine 0.99), because small ones are all noise."""
  model = toys.model(family, scan=scan, dtype=jnp.float32)
  params = model.init(jax.random.key(0), jnp.ones((1, 8), jnp.int32))['params']
  random = np.random.default_rng(0)
  predictions = 64 if toys.kind(family) == 'lm' else 3
  batch = {
    'input_ids': random.integers(4, 64, (ROWS, 64)),
    'segment_ids': np.asarray(segments(64)),
    'prediction_positions': np.sort(random.integers(0, 64, (ROWS, predictions)), axis=1),
    'labels': random.integers(0, 2, (ROWS, predictions)),
  }
  batch = {name: jnp.asarray(x, jnp.int32) for name, x in batch.items()}
  make = functools.partial(loss_and_gradient, family, params=params, batch=batch, scan=scan)
  value, grads = make('auto', jnp.bfloat16)
  exact, expected = make('xla', jnp.float32)
  np.testing.assert_allclose(value, exact, rtol=0.01)
  x, y = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in (grads, expected))
  assert x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) > 0.99
