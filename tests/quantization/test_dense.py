"""Products with quantized kernels are those with their weights, and never hold all of them."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import lora_jax
from lora_jax import ops, quantization
from lora_jax.quantization import dense
from tests.quantization.test_kernel import of_file

RNG = np.random.default_rng(1)


@pytest.mark.parametrize('format, rows', [('int8', 96), ('nf4', 256), ('nf4', 70), ('q4_1', 128)])
@pytest.mark.parametrize('limit', [2**20, 600])
def test_a_product_and_its_gradient_are_those_of_the_weights(monkeypatch, format, rows, limit):
  monkeypatch.setattr(dense, 'LIMIT', limit)
  if format == 'q4_1':
    kernel = of_file(format, rows, 12)
  else:
    weight = RNG.standard_normal((rows, 12)).astype(np.float32)
    kernel = quantization.make([quantization.encode(weight, format)], format, (rows, 12), 'float32')
  x = jnp.asarray(RNG.standard_normal((2, 5, rows)), jnp.float32)
  y, back = jax.vjp(lambda x: quantization.product(x, kernel), x)
  weight = np.asarray(kernel.astype(jnp.float32))
  np.testing.assert_allclose(y, x @ weight, rtol=1e-4, atol=1e-4 * np.abs(weight).max())
  (g,) = back(y)
  np.testing.assert_allclose(g, y @ weight.T, rtol=1e-4, atol=1e-2 * np.abs(weight).max())


SIZE, DEPTH = 256, 8


def compiled_steps(layout):
  """Three steps over as many batches through a stack of layers, compiled, and their arguments."""
  weights = RNG.standard_normal((DEPTH, SIZE, SIZE)).astype(np.float32) / 16
  split = (
    {'layers': weights} if layout == 'scan' else {f'layers_{i}': w for i, w in enumerate(weights)}
  )
  coded = quantization.quantize({name: {'up': {'kernel': w}} for name, w in split.items()}, 'nf4')
  kernels = list(quantization.kernels(coded).values())

  def loss(shift, kernels, x):
    layer = lambda x, kernel: (jnp.tanh(quantization.product(x + shift[None], kernel)), None)
    if layout == 'scan':
      return lax.scan(layer, x, kernels[0])[0].sum()
    for kernel in kernels:
      x, _ = layer(x, kernel)
    return x.sum()

  def steps(shift, kernels, batches):
    step = lambda shift, x: (shift - 0.1 * jax.grad(loss)(shift, kernels, x), None)
    return lax.scan(step, shift, batches)[0]

  args = jnp.zeros(SIZE), kernels, jnp.ones((3, 8, SIZE))
  return jax.jit(steps).lower(*args).compile(), args


@pytest.mark.parametrize('limit', [dense.LIMIT, SIZE * SIZE // 4])
@pytest.mark.parametrize('layout', ['loop', 'scan'])
def test_one_kernel_is_dequantized_at_a_time(monkeypatch, layout, limit):
  """In a loop over batches too, before which the compiler might compute what does not change."""
  monkeypatch.setattr(dense, 'LIMIT', limit)
  compiled, args = compiled_steps(layout)
  assert np.isfinite(compiled(*args)).all()
  # The eight float kernels are 32 SIZE^2 bytes. There are one or a part of it, its codes, and
  # activations.
  assert compiled.memory_analysis().temp_size_in_bytes < 8 * SIZE * SIZE
  floats = re.findall(r'(?:f32|bf16)\[([\d,]+)\]', compiled.as_text())
  largest = max(np.prod(list(map(int, sizes.split(',')))) for sizes in floats)
  assert largest == SIZE * SIZE if limit > SIZE * SIZE else largest < SIZE * SIZE


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_a_dense_layer_is_computed(dtype):
  layer = nn.Dense(6, dtype=dtype)
  x = jnp.asarray(RNG.standard_normal((3, 64)), jnp.float32)
  params = layer.init(jax.random.key(0), x)['params'] | {'bias': jnp.arange(6.0)}
  kernel = quantization.encode(params['kernel'], 'int8')
  coded = params | {'kernel': quantization.make([kernel], 'int8', (64, 6), 'float32')}
  exact = params | {'kernel': coded['kernel'].astype(jnp.float32)}
  with nn.intercept_methods(dense.interceptor):
    y = layer.apply({'params': coded}, x)
    plain = layer.apply({'params': exact}, x)
  assert y.dtype == dtype
  np.testing.assert_allclose(y.astype('f'), plain.astype('f'), atol=1e-5 if dtype == 'f' else 0.05)


def test_a_layer_gives_the_dtype_that_its_product_was_asked_for():
  """As the output layer of a language model, whose logits are float32."""
  given = functools.partial(ops.dot_general, preferred_element_type=jnp.float32)
  layer = nn.Dense(6, use_bias=False, dtype=jnp.bfloat16, dot_general=given)
  x = jnp.asarray(RNG.standard_normal((3, 64)), jnp.bfloat16)
  coded = quantization.quantize(layer.init(jax.random.key(0), x)['params'], 'int8', 'kernel')
  exact = {'kernel': coded['kernel'].astype(jnp.float32)}
  with nn.intercept_methods(dense.interceptor):
    y = layer.apply({'params': coded}, x)
  assert y.dtype == layer.apply({'params': exact}, x).dtype == jnp.float32
  np.testing.assert_allclose(y, x.astype(jnp.float32) @ exact['kernel'], rtol=1e-5, atol=1e-5)


def test_members_of_a_vmap_share_the_kernel():
  kernel = of_file('int8', 32, 4)
  x = jnp.asarray(RNG.standard_normal((3, 2, 32)), jnp.float32)
  grad = jax.grad(lambda x: quantization.product(x, kernel).sum())
  np.testing.assert_allclose(
    jax.vmap(grad)(x), np.stack([grad(one) for one in x]), rtol=1e-5, atol=1e-2
  )
  jaxpr = str(jax.make_jaxpr(jax.vmap(grad))(x))
  assert '[32,4]' in jaxpr and '[3,32,4]' not in jaxpr


def test_a_number_that_is_not_finite_does_not_reach_other_rows():
  kernel = of_file('int8', 32, 4)
  x = jnp.ones((3, 32)).at[0, 0].set(jnp.nan).at[1, 1].set(jnp.inf)
  found = quantization.product(x, kernel)
  np.testing.assert_array_equal(found[2], quantization.product(jnp.ones((1, 32)), kernel)[0])
  assert np.isnan(found[0]).all() and not np.isfinite(found[1]).any()
  assert quantization.product(jnp.zeros((0, 32)), kernel).shape == (0, 4)


@pytest.mark.parametrize('platform, barriers', [('cpu', 0), ('cuda', 2), ('tpu', 2)])
def test_a_barrier_orders_the_kernels_where_the_compiler_keeps_it(platform, barriers):
  """Both passes have one; its CPU compiler removes it, and so has an order by value."""
  kernel = of_file('int8', 32, 4)
  step = jax.jit(jax.value_and_grad(lambda x: jnp.sin(quantization.product(x, kernel)).sum()))
  text = step.trace(jnp.ones((3, 32))).lower(lowering_platforms=(platform,)).as_text()
  assert text.count('stablehlo.optimization_barrier') == barriers


class Own(nn.Dense):
  """A subclass with a call of its own."""

  @nn.compact
  def __call__(self, inputs):
    kernel = self.param('kernel', self.kernel_init, (inputs.shape[-1], self.features))
    return nn.gelu(inputs @ jnp.asarray(kernel))


class Bare(nn.Module):
  """A module that reads a weight itself."""

  @nn.compact
  def __call__(self, x):
    return x @ self.param('kernel', nn.initializers.normal(), (x.shape[-1], 3))


class Normed(nn.Module):
  """A layer whose kernel something else normalizes."""

  norm: type[nn.Module]
  options: tuple[tuple[str, object], ...] = ()

  @nn.compact
  def __call__(self, x):
    calls = {} if self.norm is nn.WeightNorm else {'update_stats': False}
    return self.norm(nn.Dense(64, name='d'), **dict(self.options))(x, **calls)


class Scaled(nn.Module):
  """A layer whose parameters a transformation changes."""

  @nn.compact
  def __call__(self, x):
    twice = lambda tree: jax.tree.map(lambda x: 2.0 * x, tree)
    kind = nn.map_variables(nn.Dense, trans_in_fn=twice, init=self.is_initializing())
    return kind(64, name='d')(x)


def doubled(*args, **kwargs):
  return 2 * lax.dot_general(*args, **kwargs)


@pytest.mark.parametrize(
  'model, leaf',
  [
    (Normed(nn.WeightNorm), 'd/kernel'),
    (Normed(nn.WeightNorm, (('use_scale', False),)), 'd/kernel'),
    (Normed(nn.SpectralNorm), 'd/kernel'),
    (Scaled(), 'd/kernel'),
    (nn.Dense(3, dot_general=doubled), 'kernel'),
    (nn.Dense(3, dot_general_cls=lambda: doubled), 'kernel'),
    (nn.Dense(3, precision='highest'), 'kernel'),
    (nnx.Linear(64, 3, dot_general=doubled, rngs=nnx.Rngs(0)), 'kernel'),
    (Own(3), 'kernel'),
    (Bare(), 'kernel'),
    (nn.DenseGeneral(3), 'kernel'),
    (nn.DenseGeneral((2, 3)), 'kernel'),
    (nn.Einsum((64, 3), '...d,dk->...k'), 'kernel'),
    (nn.Conv(3, (2,)), 'kernel'),
    (nn.MultiHeadDotProductAttention(2), 'query/kernel'),
    (nnx.LinearGeneral(64, (2, 3), rngs=nnx.Rngs(0)), 'kernel'),
    (nnx.Conv(64, 3, (2,), rngs=nnx.Rngs(0)), 'kernel'),
  ],
  ids=lambda x: '' if isinstance(x, str) else f'{type(x).__module__}.{type(x).__name__}',
)
def test_a_module_that_reads_no_quantized_kernel_is_refused_by_name(model, leaf):
  """Its own call would end in an error of Flax, or of its own, that says neither where nor why."""
  x = jnp.ones((2, 4, 64))
  is_linen = isinstance(model, nn.Module)
  params = model.init(jax.random.key(0), x)['params'] if is_linen else lora_jax.params(model)
  coded = quantization.quantize(params, 'int8', leaf)
  apply = lora_jax.bind(model, lora_jax.full())
  with pytest.raises(ValueError, match=rf'{leaf} \(.*\) is quantized .* `patterns`'):
    apply(coded, {}, x)
