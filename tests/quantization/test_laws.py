"""Laws of a model whose base is quantized: it computes what its dequantized weights would."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import methods, quantization, stacking, tree
from lora_jax.adapters import merging
from lora_jax.models import presets
from lora_jax.quantization import dense
from tests.methods import laws

METHOD = dict(name='lora', rank=2, alpha=4.0, targets='.*/(query|value|output|up)')
SIZES = laws.SIZES | dict(hidden_size=192, intermediate_size=320)


def split(model, params, **options):
  method = methods.make(**METHOD | options, train=model.head)
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  return method, *method.init(jax.random.key(1), model, params, tokens)


def loss_of(model, method, inputs):
  apply = methods.bind(model.apply, method)
  return lambda trainable, frozen: jnp.mean(
    jax.nn.log_softmax(apply(frozen, trainable, **inputs))[..., 1]
  )


@pytest.mark.parametrize(
  ('family', 'format'),
  [
    ('roberta', 'nf4'),
    pytest.param('gpt2', 'int8', marks=pytest.mark.slow),
    pytest.param('qwen2', 'nf4', marks=pytest.mark.slow),
  ],
)
def test_a_quantized_base_is_its_dequantized_weights(family, format):
  """Outputs and gradients are; looped layers are scanned ones; and merged it is the same model."""
  model, params = laws.build(family)
  coded = quantization.quantize(params, format)
  method, frozen, trainable = split(model, coded)
  assert quantization.kernels(frozen).keys() == quantization.kernels(coded).keys() != set()
  moved, inputs = laws.move(trainable), laws.batch('lora')
  value_and_grad = jax.jit(jax.value_and_grad(loss_of(model, method, inputs)))
  found, grads = value_and_grad(moved, frozen)
  expected, exact_grads = value_and_grad(moved, quantization.exact(frozen))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  for path, g in tree.flatten(exact_grads).items():
    np.testing.assert_allclose(tree.flatten(grads)[path], g, rtol=1e-3, atol=1e-5, err_msg=path)

  logits = jax.jit(methods.bind(model.apply, method))(frozen, moved, **inputs)
  merged, error = merging.merge(method.merge, frozen, moved, 'x')
  assert error == 0 and not quantization.kernels(merged)
  plain = laws.compiled(family)({'params': merged}, **inputs)
  np.testing.assert_allclose(plain, logits, atol=2e-5 * np.abs(logits).max())

  scanned, _ = laws.build(family, scan=True)
  together = quantization.quantize(stacking.stack(params, 2), format)
  again = tree.flatten(stacking.unstack(together))
  for path, kernel in quantization.kernels(coded).items():
    for name, array in kernel.arrays.items():
      np.testing.assert_array_equal(again[path].arrays[name], array, err_msg=path)
  held = tree.flatten(stacking.stack(moved, 2))
  rest = {path: x for path, x in tree.flatten(together).items() if path not in held}
  apply = jax.jit(methods.bind(scanned.apply, method))
  other = apply(tree.unflatten(rest), tree.unflatten(held), **inputs)
  np.testing.assert_allclose(other, logits, atol=2e-5 * np.abs(logits).max())


@pytest.mark.parametrize('name', ['vera', 'adapter_h', 'prefix_layer'])
def test_other_methods_are_computed_on_a_quantized_base(name):
  model, params = laws.build('roberta')
  method = methods.make(name=name, **laws.METHODS[name], train=model.head)
  coded = quantization.quantize(params, 'int8')
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  frozen, trainable = method.init(jax.random.key(1), model, coded, tokens)
  apply, inputs = methods.bind(model.apply, method), laws.batch(name)
  moved = jax.tree.map(jnp.asarray, laws.move(trainable))
  found = apply(frozen, moved, **inputs)
  expected = apply(quantization.exact(frozen), moved, **inputs)
  np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
  assert np.abs(apply(frozen, trainable, **inputs) - found).max() > 1e-3


@pytest.mark.parametrize('scan', [False, True])
def test_a_matrix_beyond_the_limit_is_dequantized_in_parts(monkeypatch, scan):
  monkeypatch.setattr(dense, 'LIMIT', 192 * 160)
  config = presets.architecture('gpt2', **SIZES)
  model = presets.build(config, task='lm', scan=scan)
  params = quantization.quantize(presets.abstract_params(model), 'nf4')
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  method = methods.make(**METHOD)
  init = lambda params: method.init(jax.random.key(1), model, params, tokens)
  frozen, trainable = jax.eval_shape(init, params)
  step = jax.jit(jax.grad(loss_of(model, method, laws.batch('lora'))))
  text = step.lower(trainable, frozen).compile().as_text()
  assert 'u8[' in text
  sizes = {tuple(map(int, x.split(','))) for x in re.findall(r'(?:f32|bf16)\[([\d,]+)\]', text)}
  whole = {kernel.shape[-2:] for kernel in quantization.kernels(params).values()}
  assert whole == {(192, 192), (192, 320), (320, 192)}
  assert not {size[-2:] for size in sizes} & whole
  assert (192, 160) in sizes  # A part.


def test_what_cannot_be_computed_is_refused_by_name():
  model, params = laws.build('roberta')
  coded = quantization.quantize(params, 'int8')
  with pytest.raises(ValueError, match=r'dora=True is not computed for quantized weights \(enc'):
    split(model, coded, dora=True)


@pytest.mark.parametrize('options', [dict(name='full'), METHOD | dict(train='.*/up/kernel')])
def test_a_method_that_would_train_codes_is_refused_by_name(options):
  model, params = laws.build('roberta')
  coded = quantization.quantize(params, 'nf4')
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  with pytest.raises(ValueError, match=r'the method trains \S*/kernel.*no gradient.*lora'):
    methods.make(**options).init(jax.random.key(1), model, coded, tokens)


def test_pissa_starts_with_a_part_of_the_dequantized_weight():
  model, params = laws.build('roberta')
  coded = quantization.quantize(params, 'int8')
  found, expected = (
    tree.flatten(split(model, x, init='pissa')[2]) for x in (coded, quantization.exact(coded))
  )
  for path, leaf in expected.items():
    np.testing.assert_allclose(found[path], leaf, atol=1e-5, err_msg=path)


def test_merging_in_a_low_dtype_casts_once_and_says_what_is_lost():
  model, params = laws.build('roberta')
  coded = quantization.quantize(tree.cast(params, jnp.bfloat16), 'nf4')
  method, frozen, trainable = split(model, coded)
  moved = laws.move(trainable)
  merged, error = merging.merge(method.merge, frozen, moved, 'x')
  exact = method.merge(quantization.exact(frozen, jnp.float32), moved)
  for path, leaf in tree.flatten(merged).items():
    np.testing.assert_array_equal(leaf, tree.flatten(exact)[path].astype(leaf.dtype), err_msg=path)
  assert 1e-4 < error < 0.1
  assert {kernel.dtype for kernel in quantization.kernels(coded).values()} == {
    jnp.dtype('bfloat16')
  }
