"""VeRA: its equation on every layout of layers, the shared factors, what is computed of it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import bind, methods, quantization, tree
from lora_jax.adapters import peft_file
from lora_jax.cost import counts
from lora_jax.methods.vera import projections, vera
from lora_jax.pretrained import safetensors
from tests.adapters.toys import ADAPTERS
from tests.methods import laws
from tests.methods.test_interception import JittedLayer, OwnJit, ScannedJit
from tests.methods.toys import KEY, X, adapted, disturbed, one

METHOD = vera(rank=3)
LAYOUTS = ('loop', 'scan', 'remat', 'scan+remat', 'vmap', 'general', 'general-axes')


@pytest.mark.parametrize('name', LAYOUTS)
def test_merged_is_applied(name):
  model, params, frozen, trainable, x = adapted(name, METHOD)
  base = model.apply({'params': params}, x)
  apply = jax.jit(bind(model.apply, METHOD))
  np.testing.assert_allclose(apply(frozen, trainable, x), base, atol=1e-6)
  moved = disturbed(trainable)
  found = apply(frozen, moved, x)
  assert np.abs(found - base).max() > 0.01
  merged = METHOD.merge(frozen, moved)
  assert set(tree.paths(merged)) == set(tree.paths(params))
  np.testing.assert_allclose(model.apply({'params': merged}, x), found, rtol=1e-4, atol=1e-4)


def test_smaller_modules_take_the_first_columns_and_rows():
  model = Unequal()
  frozen, trainable = METHOD.init(KEY, model, model.init(KEY, X)['params'], X)
  moved = disturbed(trainable)
  pair, own = moved['vera_projections'], moved['query']
  assert (pair['a'].shape, pair['b'].shape) == ((6, 3), (3, 8))
  merged = METHOD.merge(frozen, moved)
  wanted = (pair['a'] * own['vera_d'][None]) @ (pair['b'][:, :4] * own['vera_b'][None])
  np.testing.assert_allclose(
    merged['query']['kernel'] - frozen['query']['kernel'], wanted, atol=1e-6
  )
  found = bind(model.apply, METHOD)(frozen, moved, X)
  np.testing.assert_allclose(model.apply({'params': merged}, X), found, rtol=1e-4, atol=1e-5)


class Unequal(nn.Module):
  """Modules of two sizes, called through another method of the model."""

  def setup(self):
    self.query, self.value = nn.Dense(4), nn.Dense(8)

  def __call__(self, x):
    return self.inner(x)

  def inner(self, x):
    return self.value(self.query(x))


@pytest.mark.parametrize('model', [OwnJit(), JittedLayer(), ScannedJit()], ids=str)
def test_a_model_that_jits_its_own_methods_adds_the_factors_of_each_call(model):
  x = jax.random.normal(KEY, (2, 3))
  params = model.init(KEY, x)['params']
  method = vera(rank=2, targets='.*query')
  for apply in (bind(model.apply, method), jax.jit(bind(model.apply, method))):
    for seed in (3, 4):
      frozen, trainable = vera(rank=2, targets='.*query', projection_seed=seed).init(
        KEY, model, params, x
      )
      trainable = disturbed(trainable)
      merged = model.apply({'params': method.merge(frozen, trainable)}, x)
      for _ in range(2):
        found = apply(frozen, trainable, x)
        np.testing.assert_allclose(found, merged, rtol=1e-4, atol=1e-5)


def test_the_shared_factors_are_those_that_peft_draws():
  stored = safetensors.Tensors(ADAPTERS / 'peft.bert.vera' / peft_file.TENSORS)
  a, b = (np.array(stored[f'base_model.vera_{name}']) for name in 'AB')
  found = projections(5, a.shape[0], a.shape[1], b.shape[0])
  np.testing.assert_array_equal(found.a, a.T)
  np.testing.assert_array_equal(found.b, b.T)


def test_no_gradient_of_the_shared_factors_is_computed():
  """With d inside of a product its gradient would be one of the size of a."""
  model = one(nn.Dense, 8)
  frozen, trainable = METHOD.init(KEY, model, model.init(KEY, X)['params'], X)
  apply = bind(model.apply, METHOD)
  gradient = jax.grad(lambda trainable: (apply(frozen, trainable, X) ** 2).sum())
  products = [
    equation.outvars[0].aval.shape
    for equation in jax.make_jaxpr(gradient)(trainable).jaxpr.eqns
    if equation.primitive.name == 'dot_general'
  ]
  assert (4, 5, 3) in products  # x a, and what comes back through b.
  assert not {(6, 3), (3, 6), (3, 8), (8, 3)} & set(products), products


@pytest.mark.parametrize('scan', [False, True])
def test_a_quantized_base_is_its_dequantized_weights(scan):
  model, params = laws.build('roberta', scan)
  coded = quantization.quantize(params, 'int8')
  method = vera(rank=3, targets='.*/(query|up)')
  frozen, trainable = method.init(KEY, model, coded, jax.ShapeDtypeStruct((1, 8), np.int32))
  moved, inputs = laws.move(trainable), laws.batch('vera')
  apply = jax.jit(bind(model.apply, method))
  found, unmoved = (apply(frozen, part, **inputs) for part in (moved, trainable))
  assert np.abs(found - unmoved).max() > 0.01
  merged = quantization.exact(method.merge(frozen, moved))
  plain = jax.jit(model.apply)({'params': merged}, **inputs)
  np.testing.assert_allclose(found, plain, atol=2e-5 * np.abs(plain).max())


def test_dropout_is_on_the_input_of_the_factors():
  method = vera(rank=3, dropout=0.5)
  model = one(nn.Dense, 4)
  frozen, trainable = method.init(KEY, model, model.init(KEY, X)['params'], X)
  apply, trainable = bind(model.apply, method), disturbed(trainable)
  base = model.apply({'params': frozen}, X)
  plain, dropped = (apply(frozen, trainable, X, rngs=x) for x in ({}, {'dropout': KEY}))
  assert np.abs(plain - dropped).max() > 0.01
  keys = jax.random.split(KEY, 400)
  many = jax.vmap(lambda key: apply(frozen, trainable, X, rngs={'dropout': key}))(keys)
  error = jnp.abs(many.mean(0) - plain).max() / jnp.abs(plain - base).max()
  assert error < 0.2


@pytest.mark.parametrize(
  ('options', 'case', 'message'),
  [
    (dict(rank={'.*': 2}), 'loop', 'vera: rank=.*: expected one number, as all modules share'),
    (dict(rank=0), 'loop', 'vera: rank=0: a rank is a whole number'),
    (dict(d_initial=0.0), 'loop', r'vera: d_initial=0\.0: expected a positive'),
    (dict(dropout=1.0), 'loop', r'vera: dropout=1\.0'),
    ({}, 'embed', r'vera is not computed for query \(Embed\), only for layers of the types Dense'),
    ({}, 'conv', r'vera is not computed for query \(Conv\)'),
    ({}, 'general-batch', "vera: the weight of 'query' .* is not one matrix"),
  ],
)
def test_what_vera_cannot_take_is_named(options, case, message):
  with pytest.raises(ValueError, match=message):
    adapted(case, vera(**dict(rank=2) | options))


@pytest.mark.parametrize(
  ('model', 'rank', 'printed'),  # Its tables 2 and 3.
  [('roberta-base', 1024, 43_008), ('roberta-large', 256, 61_440), ('gpt2-medium', 1024, 98_304)],
)
def test_counts_are_those_of_its_paper(model, rank, printed):
  summary = counts.summarize_preset(model, 'vera', dict(rank=rank), scan=True)
  assert summary.trainable - summary.head == printed


def test_a_sweep_shares_a_program_over_ranks_and_seeds():
  program = lambda **options: methods.make('vera', **{'rank': 3} | options).program
  assert program() == program(rank=64, projection_seed=9, d_initial=1.0, targets='.*')
  assert program() != program(rank=65) and program() != program(dropout=0.1)
